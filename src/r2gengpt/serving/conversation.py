"""Which message of a chat is the study: the last of the user's, with its images. Nothing of earlier turns is read."""

from typing import Any

from r2gengpt.serving.failures import INVALID, UNSUPPORTED, ApiError

SYSTEM = ("system", "developer")
EARLIER_LEFT_OUT = "earlier turns of this chat were left out: each answer is the report of the last message's images"
FOLLOW_UP = (
    "messages: this model writes the report of a study, one study at a time, and answers no questions on it: "
    "send the images again with another instruction, or start a new chat"
)
NO_IMAGE = "messages: no image: this model writes reports of chest X-rays: put the images into the last user message"
NO_USER = "messages: no user message: one with the study's images is needed"


def last_turn(messages: Any) -> Any:
    """The messages with all but the systems' and the user's last one emptied; anything else as it is.

    They keep their number, by which faults are named. What is emptied may be of any form: a server's own answer, a
    tool's, a message that was refused.

    Raises:
        ApiError: the user's last message has no image.
    """
    if not isinstance(messages, list):
        return messages
    own = [at for at, message in enumerate(messages) if role_of(message) == "user"]
    if own and not has_image(messages[own[-1]]):
        if any(has_image(messages[at]) for at in own):
            raise ApiError(400, FOLLOW_UP, UNSUPPORTED, param="messages")
        raise ApiError(400, NO_IMAGE, INVALID, param="messages")
    return [
        message
        if at in own[-1:] or role_of(message) not in ("user", "assistant", "tool", "function")
        else {"role": message["role"]}
        for at, message in enumerate(messages)
    ]


def role_of(message: Any) -> Any:
    """The role that a message has; None where it can have none."""
    return message.get("role") if isinstance(message, dict) else None


def has_image(message: Any) -> bool:
    """Whether a message holds anything but texts; what it is, and whether it can be read, shows later."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return any(not isinstance(part, dict) or part.get("type") != "text" for part in parts)
