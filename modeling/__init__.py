"""What the networks are: backbones, decoders, criteria, and the architectures that join them. No detectron2 here."""
