"""Training with Lightning, the only room that imports it. No maths of its own."""
