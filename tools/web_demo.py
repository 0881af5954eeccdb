"""Serve a web page that cuts out the subject of a picture or a short clip, as alpha, cut-out and composite.

    pip install -r requirements/web.txt
    python tools/web_demo.py [--port 7860] [--checkpoint CKPT] [--seg CKPT]

The subject is marked by a box, clicks, a brush with three colours or a mask file. With --seg it is found automatically.
By default only this computer can reach the page. --host 0.0.0.0 serves it to the network, without a password. The page
needs no internet connection. Requests are processed one at a time, and others wait in a queue. See docs/web.md.
"""

import argparse
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime.command_line import run, tell, unwinding
from runtime.errors import InputError
from runtime.memory import parse_bytes
from tools.web.work import Limits

LOCAL = ("127.0.0.1", "localhost", "::1")


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    layout = page_layout()
    from engine.inference import Matting

    memory = None if options.max_memory is None else parse_bytes(options.max_memory)
    matting = Matting(options.checkpoint, options.device, segmentation=options.seg, max_memory=memory)
    limits = Limits(options.max_megapixels, parse_bytes(options.max_upload), options.max_clip_frames)
    with tempfile.TemporaryDirectory(prefix="dinomatte-") as name:
        folder = Path(name)
        page = layout.build_page(matting, folder, limits, has_segmentation=options.seg is not None)
        address = layout.serve(page, options.host, options.port, folder, limits)
        if options.host not in LOCAL:
            tell(f"warning: --host {options.host}: anyone who reaches this address can use the page without a password")
        print(f"{address}  (stop with Ctrl-C)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return 0


def page_layout():
    """Import the module of the page, which needs gradio.

    Raises:
        InputError: gradio is not installed.
    """
    try:
        from tools.web import layout
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("tools", "engine", "data", "runtime"):
            raise
        raise InputError(
            f"the web page needs {error.name}, which is not installed; pip install -r requirements/web.txt"
        ) from error
    return layout


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (default: this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="port of the page (default: 7860)")
    parser.add_argument("--checkpoint", type=Path, metavar="CKPT", help="matting model (default: the model in the box)")
    parser.add_argument("--seg", type=Path, metavar="CKPT", help="segmentation that finds the subject automatically")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best available)")
    parser.add_argument(
        "--max-memory", metavar="AMOUNT", help="memory limit of matting, such as 4GB (default: 80%% of the free memory)"
    )
    parser.add_argument("--max-megapixels", type=float, default=24, metavar="N", help="largest picture (default: 24)")
    parser.add_argument("--max-clip-frames", type=int, default=300, metavar="N", help="longest clip (default: 300)")
    parser.add_argument("--max-upload", default="50MB", metavar="AMOUNT", help="largest file (default: 50MB)")
    options = parser.parse_args(arguments)
    if not 0 < options.port < 65536:
        raise InputError(f"--port: expected 1 to 65535, got {options.port}")
    if not 0 < options.max_megapixels <= 400:
        raise InputError(f"--max-megapixels: expected more than 0 and at most 400, got {options.max_megapixels:g}")
    if options.max_clip_frames < 1:
        raise InputError(f"--max-clip-frames: expected 1 or more, got {options.max_clip_frames}")
    return options


if __name__ == "__main__":
    with unwinding():
        run(main)
