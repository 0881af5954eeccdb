"""Networks: backbones, decoders, criteria, and the systems that combine them. Nothing here needs Detectron2."""
