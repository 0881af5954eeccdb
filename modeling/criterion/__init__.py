from modeling.criterion.matting_criterion import MattingCriterion

__all__ = ["MattingCriterion"]
