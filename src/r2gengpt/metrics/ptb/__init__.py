"""Penn Treebank words as coco-caption finds them. No metric."""
