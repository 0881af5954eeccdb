"""Training sets: the Deep Image Matting recipe, folders of photographs, mixtures, and the loader."""
