"""From names and settings to a model: the only room that loads pretrained weights. No loops."""
