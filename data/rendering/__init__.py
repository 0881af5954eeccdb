"""A renderer of foregrounds: strands and meshes with exact alpha, for training."""
