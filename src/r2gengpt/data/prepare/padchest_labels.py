"""What PadChest's labels say of our observations, and of which they leave us in doubt. Reads no table.

Source: Bustos et al. 2019, "PadChest" (arXiv 1901.07441), whose trees order the labels;
github.com/auriml/Rx-thorax-automatic-captioning, README.md, for what `Labels` holds.
"""

from collections.abc import Mapping, Sequence

from r2gengpt.data.labels import Labels
from r2gengpt.text.observations import NO_FINDING, SUPPORT_DEVICES

NORMAL, EXCLUDE = "normal", "exclude"
INCOMPLETE = ("unchanged", "suboptimal study")
"""Labels of a report that does not tell all that the film shows: what it does not name is unknown, not absent."""
PRESENT: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": ("mediastinal enlargement", "superior mediastinal enlargement"),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": (
        *("infiltrates", "interstitial pattern", "ground glass pattern", "reticular interstitial pattern"),
        *("reticulonodular interstitial pattern", "miliary opacities", "alveolar pattern", "consolidation"),
        "air bronchogram",
    ),
    "Lung Lesion": ("nodule", "multiple nodules", "mass", "pulmonary mass", "lung metastasis"),
    "Edema": ("pulmonary edema",),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Atelectasis": (
        *("atelectasis", "total atelectasis", "lobar atelectasis", "segmental atelectasis", "laminar atelectasis"),
        *("round atelectasis", "atelectasis basal"),
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": (
        *("pleural effusion", "loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax"),
    ),
    "Pleural Other": (
        *("pleural thickening", "apical pleural thickening", "calcified pleural thickening", "pleural plaques"),
        *("calcified pleural plaques", "pleural mass"),
    ),
    "Fracture": (
        *("fracture", "clavicle fracture", "humeral fracture", "rib fracture", "vertebral fracture"),
        "callus rib fracture",
    ),
    SUPPORT_DEVICES: (
        *("nsg tube", "endotracheal tube", "tracheostomy tube", "chest drain tube", "gastrostomy tube"),
        *("ventriculoperitoneal drain tube", "catheter", "central venous catheter"),
        *("central venous catheter via subclavian vein", "central venous catheter via jugular vein"),
        *("central venous catheter via umbilical vein", "reservoir central venous catheter", "pacemaker"),
        *("electrical device", "dual chamber device", "single chamber device", "dai", "artificial heart valve"),
        *("artificial mitral heart valve", "artificial aortic heart valve"),
    ),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Hernia": ("hiatal hernia",),
}
"""Observation → labels that say that it is there."""
DOUBTFUL: Mapping[str, Sequence[str]] = {
    "Enlarged Cardiomediastinum": ("mediastinal mass", "cardiomegaly"),
    "Lung Opacity": ("increased density", "pneumonia", "atypical pneumonia", "pulmonary edema", "tuberculosis"),
    "Lung Lesion": (
        *(
            "granuloma",
            "calcified granuloma",
            "cavitation",
            "pseudonodule",
            "abscess",
            "lepidic adenocarcinoma",
            "cyst",
        ),
    ),
    "Edema": (
        *("heart insufficiency", "kerley lines", "hilar congestion", "vascular redistribution"),
        *("central vascular redistribution", "pulmonary venous hypertension", "respiratory distress"),
    ),
    "Consolidation": ("alveolar pattern", "air bronchogram", "pneumonia", "atypical pneumonia"),
    "Pneumonia": ("tuberculosis", "empyema", "abscess"),
    "Atelectasis": ("volume loss", "hypoexpansion", "hypoexpansion basal"),
    "Pleural Effusion": ("costophrenic angle blunting", "empyema", "pleural mass"),
    "Pleural Other": (
        *("fissure thickening", "minor fissure thickening", "major fissure thickening", "asbestosis signs", "empyema"),
        "costophrenic angle blunting",
    ),
    "Fracture": ("vertebral compression", "vertebral anterior compression"),
    SUPPORT_DEVICES: (
        *("metal", "sternotomy", "suture material", "osteosynthesis material", "prosthesis", "endoprosthesis"),
        *("aortic endoprosthesis", "double j stent", "nephrostomy tube", "external foreign body", "surgery heart"),
    ),
    "Emphysema": ("bullas", "copd signs", "hyperinflated lung", "air trapping", "flattened diaphragm"),
    "Fibrosis": ("fibrotic band", "chronic changes", "tuberculosis sequelae", "post radiotherapy changes"),
}
"""Observation → labels beside which it is unknown: they may mean it, or come with it, and do not say so."""
_SAYING = {name: frozenset(labels) for name, labels in PRESENT.items()}
_LEAVING_OPEN = {name: frozenset(labels) for name, labels in DOUBTFUL.items()}


def labels_of(words: Sequence[str]) -> Labels:
    """What a report's labels say of the film; nothing where it has none.

    A label is present where it stands there. A report's labels are all that it tells, so that another observation is
    absent, unless a label leaves it open or the report tells no more than a change.

    >>> labels_of(["normal"])["Edema"], "Edema" in labels_of(["unchanged"]), labels_of(["kerley lines"]).get("Edema")
    (0.0, False, None)
    """
    found = {" ".join(word.lower().split()) for word in words} - {""}
    if not found or EXCLUDE in found:
        return Labels()
    is_whole = not found & set(INCOMPLETE)
    values: dict[str, float] = {}
    for name, saying in _SAYING.items():
        if found & saying:
            values[name] = 1.0
        elif is_whole and not found & _LEAVING_OPEN.get(name, frozenset()):
            values[name] = 0.0
    abnormal = found - {NORMAL, *INCOMPLETE} - _SAYING[SUPPORT_DEVICES]
    if abnormal:
        values[NO_FINDING] = 0.0
    elif found == {NORMAL}:
        values[NO_FINDING] = 1.0
    return Labels(values)
