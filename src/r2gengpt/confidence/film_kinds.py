"""Kinds of films that are not as they should be, by name and in words. Tells none apart."""

UPRIGHT = "upright"
"""As a film should be."""
INVERTED, LEFT, OVER, RIGHT, TILTED, CUT_OFF = (
    "inverted", "turned_left", "upside_down", "turned_right", "tilted", "cut_off",
)  # fmt: skip
ODD = (INVERTED, LEFT, OVER, RIGHT, TILTED, CUT_OFF)
"""What a film may be instead; the first four can be put right."""
NO_CHEST, LATERAL, AGE, WRITING = "no_chest", "lateral", "age", "writing"
"""What else may speak against a film."""
WORDS = {
    NO_CHEST: "looks like no whole chest film",
    INVERTED: "looks inverted: air bright, bone dark",
    LEFT: "looks turned to the left by a quarter",
    OVER: "looks upside down",
    RIGHT: "looks turned to the right by a quarter",
    TILTED: "looks tilted",
    CUT_OFF: "looks cut off: a part of the chest is not on it",
}
"""How a doubt goes on after the film's name."""
