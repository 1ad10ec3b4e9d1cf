"""Films of strangers decoded in processes of their own, within limits. Reads no annotation."""
