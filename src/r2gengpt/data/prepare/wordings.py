"""How composed reports name what is present, suspected, absent and not assessed. Chooses nothing.

The rule labeller (`metrics.labels`) reads each wording back as what it is made from, and as nothing else: "fibrosis" is
an opacity to it, so fibrosis is "fibrotic change". No wording tells more than a label does: no size, no texture, no
cause and no age of a finding.
"""

import re
from collections.abc import Mapping

PRESENT: Mapping[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        "cardiomegaly", "an enlarged heart", "enlargement of the heart", "an enlarged cardiac silhouette",
        "cardiac enlargement",
    ),
    "Enlarged Cardiomediastinum": (
        "a widened mediastinum", "mediastinal widening", "widening of the mediastinum", "an enlarged mediastinum",
    ),
    "Lung Opacity": (
        "lung opacity", "increased lung opacity", "opacities", "an infiltrate", "pulmonary infiltrates",
        "pulmonary opacification", "infiltration",
    ),
    "Lung Lesion": (
        "a lung lesion", "a pulmonary nodule or mass", "a pulmonary lesion", "a nodule or mass",
        "a nodular lesion or mass",
    ),
    "Edema": (
        "pulmonary edema", "edema", "signs of pulmonary edema", "changes of pulmonary edema",
        "an appearance of pulmonary edema",
    ),
    "Consolidation": (
        "consolidation", "an area of consolidation", "pulmonary consolidation", "consolidated lung",
        "a region of consolidation",
    ),
    "Pneumonia": (
        "pneumonia", "pneumonic change", "changes that fit pneumonia", "changes of pneumonia", "signs of pneumonia",
        "an appearance of pneumonia",
    ),
    "Atelectasis": (
        "atelectasis", "atelectatic change", "an area of atelectasis", "signs of atelectasis", "some atelectasis",
    ),
    "Pneumothorax": ("a pneumothorax", "pneumothorax", "signs of pneumothorax", "evidence of pneumothorax"),
    "Pleural Effusion": (
        "a pleural effusion", "pleural effusion", "pleural fluid", "signs of pleural effusion",
        "a collection of pleural fluid",
    ),
    "Pleural Other": (
        "pleural thickening", "thickening of the pleura", "a pleural abnormality", "pleural disease",
        "some pleural thickening",
    ),
    "Fracture": ("a fracture", "evidence of a fracture", "a fractured bone"),
    "Support Devices": ("a support device", "a medical device", "support devices"),
    "Emphysema": ("emphysema", "emphysematous change", "signs of emphysema", "an appearance of emphysema"),
    "Fibrosis": ("fibrotic change", "changes of a fibrotic kind", "signs of fibrotic change", "some fibrotic change"),
    "Hernia": ("a hernia", "a diaphragmatic hernia", "signs of a diaphragmatic hernia", "a hernia at the diaphragm"),
}  # fmt: skip
"""Observation → what a sentence says is there, in the order in which a report tells them."""
BOTH_SIDES: Mapping[str, tuple[str, ...]] = {"Lung Lesion": ("lung lesions", "pulmonary lesions", "nodules or masses")}
"""Observation → its wordings on both sides, of one whose others are of a single thing."""

PNEUMONIC_OPACITY = (
    "opacity consistent with pneumonia", "an opacity in keeping with pneumonia", "lung opacity that fits pneumonia",
    "an infiltrate consistent with pneumonia", "opacification of pneumonia", "airspace opacity typical of pneumonia",
    "pneumonic opacities", "pneumonia with airspace opacification",
)  # fmt: skip
"""Lung opacity and pneumonia in one."""
SEVERAL = re.compile(r"(?:signs|changes|support devices)\b|(?:\w+ )?(?:opacities|infiltrates|lesions|nodules)\b")
"""Wordings in the plural."""

FRAMES = ("There is {}.", "The film shows {}.", "{} is seen.", "{} is present.", "Findings include {}.")
LIST_FRAMES = ("There is {}.", "The film shows {}.", "{} are seen.", "{} are present.", "Findings include {}.")
PLURAL_FRAMES = ("There are {}.", "The film shows {}.", "{} are seen.", "{} are present.", "Findings include {}.")
SUSPECTED_FRAMES = (
    "The appearance is suspicious for {}.",
    "The film suggests {}.",
    "There is possible {}.",
    "{} is suspected.",
    "Probable {}.",
    "The appearance is suggestive of {}.",
)
BARE: Mapping[str, tuple[str, ...]] = {
    "Cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "Enlarged Cardiomediastinum": ("mediastinal widening", "widening of the mediastinum"),
    "Lung Opacity": ("lung opacity", "infiltrate", "focal opacity"),
    "Lung Lesion": ("lung lesion", "nodule or mass", "pulmonary nodule or mass"),
    "Edema": ("pulmonary edema", "edema"),
    "Consolidation": ("consolidation", "focal consolidation"),
    "Pneumonia": ("pneumonia", "pneumonic change"),
    "Atelectasis": ("atelectasis", "atelectatic change"),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "Pleural Other": ("pleural thickening", "thickening of the pleura"),
    "Fracture": ("fracture",),
    "Support Devices": ("support device", "medical device"),
    "Emphysema": ("emphysema", "emphysematous change"),
    "Fibrosis": ("fibrotic change",),
    "Hernia": ("hernia", "diaphragmatic hernia"),
}
"""Observation → its name without an article: the first for what is suspected, all for lists of what is absent."""
ABSENT_FRAMES = ("No {} is seen.", "No {}.", "There is no {}.", "No evidence of {}.", "The film shows no {}.")
CLEAR_LUNGS = (
    "The lungs are clear.",
    "Clear lungs.",
    "Both lungs are clear.",
    "The lungs appear clear.",
    "Lungs clear.",
)
NORMAL_HEART = (
    "The heart is normal in size.",
    "Heart size is normal.",
    "The cardiac silhouette is normal in size.",
    "The heart is not enlarged.",
    "Normal heart size.",
)
OPENINGS: Mapping[str, tuple[str, ...]] = {
    "child": ("Chest radiograph of a child.", "Chest film of a child.", "Pediatric chest radiograph."),
    "lateral": ("Lateral chest radiograph.", "Lateral view of the chest.", "Lateral chest film."),
    "lateral child": ("Lateral chest radiograph of a child.", "Lateral chest film of a child."),
    "normal": ("Normal chest radiograph.", "Normal chest film.", "Unremarkable chest radiograph."),
    "abnormal": ("Abnormal chest radiograph.", "The chest radiograph is abnormal.", "Abnormal chest film."),
}
NOT_ASSESSED: Mapping[str, tuple[str, ...]] = {
    "Cardiomegaly": ("the heart", "heart size"),
    "Pleural Effusion": ("the pleural spaces", "the pleura"),
}
NOT_ASSESSED_FRAMES = ("{} were not assessed.", "Not assessed: {}.", "No assessment was made of {}.")
