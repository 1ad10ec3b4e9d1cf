"""Codes of audit messages: DICOM's, and a few of this program's own. Builds no message.

Source: DICOM PS3.16, context groups 400 to 405, and PS3.15, A.5.1.2.
"""

from r2gengpt.auditlog.message import AuditCode, codes

DCM, RFC3881, OWN = "DCM", "RFC-3881", "99R2GENGPT"
"""Code systems."""
(
    APPLICATION_ACTIVITY,
    BEGIN_TRANSFER,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    EXPORT,
    ORDER_RECORD,
    PROCEDURE_RECORD,
    QUERY,
    SECURITY_ALERT,
    USER_AUTHENTICATION,
) = codes(
    DCM,
    (
        ("110100", "Application Activity"),
        ("110102", "Begin Transferring DICOM Instances"),
        ("110103", "DICOM Instances Accessed"),
        ("110104", "DICOM Instances Transferred"),
        ("110106", "Export"),
        ("110109", "Order Record"),
        ("110111", "Procedure Record"),
        ("110112", "Query"),
        ("110113", "Security Alert"),
        ("110114", "User Authentication"),
    ),
)
"""Events."""
(
    APPLICATION_START,
    APPLICATION_STOP,
    LOGIN,
    NODE_AUTHENTICATION,
    RESTRICTED_FUNCTION,
    RECORDING_STARTED,
    USERS_CHANGED,
) = codes(
    DCM,
    (
        ("110120", "Application Start"),
        ("110121", "Application Stop"),
        ("110122", "Login"),
        ("110126", "Node Authentication"),
        ("110132", "Use of Restricted Function"),
        ("110134", "Audit Recording Started"),
        ("110137", "User Security Attributes Changed"),
    ),
)
"""Kinds of events."""
APPLICATION, DESTINATION, SOURCE, DESTINATION_MEDIA = codes(
    DCM,
    (
        ("110150", "Application"),
        ("110152", "Destination Role ID"),
        ("110153", "Source Role ID"),
        ("110154", "Destination Media"),
    ),
)
"""Roles of participants."""
URI_MEDIA, STUDY_UID, NODE_ID = codes(DCM, (("110037", "URI"), ("110180", "Study Instance UID"), ("110182", "Node ID")))
PATIENT_NUMBER, REPORT_NUMBER, URI_ID = codes(RFC3881, (("2", "Patient Number"), ("9", "Report Number"), ("12", "URI")))
FILM_HASH, PSEUDONYM = codes(
    OWN, (("film-sha256", "SHA-256 of an image file"), ("pseudonym", "Keyed hash of a patient's identifier"))
)
"""What identifies a film without a UID, and a patient whom a receipt names by a hash."""


def own_code(value: str, meaning: str) -> AuditCode:
    """A code of this program's own."""
    return AuditCode(value, OWN, meaning)
