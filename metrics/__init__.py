"""Matting metrics as papers report them, for arrays and for folders of files.

    from metrics import score_image, mean_scores
    scores = [score_image(pred_alpha, alpha, trimap) for pred_alpha, alpha, trimap in samples]
    print(mean_scores(scores))

Arrays are (H, W) uint8, as the files hold them.

Definitions, units and decisions are in docs/metrics.md.
"""

from metrics.comparison import compare
from metrics.connectivity import conn
from metrics.folders import Evaluation, score_folders
from metrics.fringe import fringe
from metrics.gradient import grad
from metrics.image_scores import METRICS, PAPER_METRICS, Metric, mean_scores, score_image
from metrics.reports.page import write_html
from metrics.reports.saved import read_report
from metrics.reports.scores import as_record, format_table, write_csv, write_json
from metrics.sad_mse import mad, mse, psnr, sad
from metrics.similarity import ssim
from metrics.temporal import dtssd, messddt, score_sequence, truth_flow

__all__ = [
    "METRICS",
    "PAPER_METRICS",
    "Evaluation",
    "Metric",
    "as_record",
    "compare",
    "conn",
    "dtssd",
    "format_table",
    "fringe",
    "grad",
    "mad",
    "mean_scores",
    "messddt",
    "mse",
    "psnr",
    "read_report",
    "sad",
    "score_folders",
    "score_image",
    "score_sequence",
    "ssim",
    "truth_flow",
    "write_csv",
    "write_html",
    "write_json",
]
