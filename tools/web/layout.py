"""Layout of the web page in gradio, and the functions that its buttons call."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # set before the import, because gradio sends telemetry at its start
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from engine.inference import Matting
from runtime.errors import InputError
from tools.web.work import (
    Limits,
    Marks,
    Progress,
    cut_out,
    cut_out_clip,
    message,
    parse_marks,
    progress_bar,
    read_upload,
    read_upload_mask,
    safe_name,
    shown_results,
    surface_of,
    surface_with_trimap,
    sweep,
    trimap_for,
)

HERE = Path(__file__).resolve().parent
WAITING = 8  # largest number of requests in the queue; further ones are refused
SESSIONS = 32  # number of sessions whose state is kept
CLEANED_EVERY, UPLOADS_KEPT = 600, 3600  # seconds
WIDEST_BAND = 100  # maximum of the slider in pixels
EMPTY_SURFACE = '{"reset": true}'


def build_page(matting: Matting, folder: Path, limits: Limits, has_segmentation: bool = False) -> gr.Blocks:
    """Build the page for `serve`.

    Args:
        folder: folder for results. Its files can be downloaded by anyone who knows their names.
        has_segmentation: whether `matting` can find the subject automatically.
    """
    with gr.Blocks(title="DINOMatte", analytics_enabled=False, delete_cache=(CLEANED_EVERY, UPLOADS_KEPT)) as page:
        gr.Markdown(
            "# DINOMatte\nCut a subject out of a picture or a short clip: upload it, say what the subject is, and "
            "press **Cut out**. Nothing leaves the computer that serves this page."
        )
        upload = gr.File(label="Picture or short clip", file_count="single", height=110, elem_id="upload")
        surface = gr.HTML(
            value="",
            html_template=(HERE / "surface.html").read_text(encoding="utf-8"),
            js_on_load=(HERE / "surface.js").read_text(encoding="utf-8"),
            elem_id="surface",
        )
        with gr.Row():
            width = gr.Slider(
                0, WIDEST_BAND, value=0, step=1, label="Unknown band, pixels (0: auto)",
                elem_id="width",
            )  # fmt: skip
            rest = gr.Radio(
                [("background", "background"), ("unknown", "unknown")],
                value="background",
                label="Where nothing is painted",
                elem_id="rest",
            )
            colour = gr.ColorPicker("#1e90ff", label="Background of the composite", elem_id="colour")
        with gr.Accordion("A mask of the subject instead", open=False):
            mask = gr.File(label="Mask: binary, soft, or a cut-out", file_count="single", height=110, elem_id="mask")
        automatic = gr.Checkbox(
            False, label="Find the subject automatically", visible=has_segmentation, elem_id="automatic"
        )
        files = gr.Radio(
            [
                ("WebM, for browsers", "webm"),
                ("ProRes 4444, for editing", "mov"),
                ("PNG frames, zipped", "frames"),
            ],
            value="webm",
            label="Files of the cut-out and alpha of a clip",
            visible=False,
            elem_id="files",
        )
        with gr.Row():
            show = gr.Button("Show the trimap", elem_id="show")
            run = gr.Button("Cut out", variant="primary", elem_id="run")
            cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")
        status = gr.HTML("", elem_id="status")
        results = gr.HTML("", js_on_load=(HERE / "results.js").read_text(encoding="utf-8"), elem_id="results")

        def read(path: str | None) -> tuple:
            if path is None:
                return EMPTY_SURFACE, "", "", gr.update(visible=False)
            found = read_upload(path, limits)
            surface = surface_of(found.picture, found.profile)
            return surface, message([found.note]), "", gr.update(visible=found.is_clip)

        def trimap_of(found, drawn, mask_path, is_automatic, unpainted, band):
            """Trimap of the picture; None for a clip in each of whose frames a segmentation finds the subject."""
            size = found.picture.shape[:2]
            given = None if mask_path is None else read_upload_mask(mask_path, limits)
            if given is not None and given.shape != size:
                raise InputError("the mask has another size than the picture; make it at the picture's size")
            marks = parse_marks(drawn, size)
            if found.is_clip and is_automatic and given is None and marks == Marks():
                return None
            return trimap_for(matting, found.picture, marks, given, is_automatic, unpainted, band or None)

        def show_trimap(path, *chosen) -> tuple[str, str]:
            found = read_upload(path, limits)
            trimap = trimap_of(found._replace(is_clip=False), *chosen)
            if trimap is None:
                raise InputError("this system needs no trimap; mark the subject to make one")
            lines = ["The trimap is shown over the picture: blue foreground, yellow unknown, orange background."]
            return surface_with_trimap(trimap), message(lines)

        def cut(path, drawn, mask_path, is_automatic, unpainted, band, background, files, progress=gr.Progress()):  # noqa: B008
            progress(0.05, "Reading")
            sweep(folder)
            found = read_upload(path, limits)
            trimap = trimap_of(found, drawn, mask_path, is_automatic, unpainted, band)
            if not found.is_clip:
                arguments = (matting, found.picture, trimap, background, folder, safe_name(path), progress)
                done = cut_out(*arguments, found.profile)
                yield message([*done.remarks, "Done. Zoom to check the edge."]), shown_results(done, url_of)
                return
            with closing(cut_out_clip(matting, path, trimap, background, files, folder, limits)) as states:
                for state in states:
                    if isinstance(state, Progress):
                        yield progress_bar(state), gr.skip()
                    else:
                        yield message([*state.remarks, "Done."]), shown_results(state, url_of)

        given = [upload, surface, mask, automatic, rest, width]
        alone = {"concurrency_id": "matting", "concurrency_limit": 1, "api_visibility": "private"}
        at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        upload.change(_reporting(read, 4, 1), upload, [surface, status, results, files], **alone)
        show.click(_reporting(show_trimap, 2, 1), given, [surface, status], **alone)
        begun = run.click(lambda: ("", gr.update(interactive=True)), None, [status, cancel], **at_once)
        chosen = [*given, colour, files]
        running = begun.then(_reporting(cut, 2, 0), chosen, [status, results], **alone, show_progress_on=[status])
        running.then(lambda: gr.update(interactive=False), None, cancel, **at_once)
        dropped = (message(["Cancelled."]), gr.update(interactive=False))
        cancel.click(lambda: dropped, None, [status, cancel], cancels=[running], **at_once)
    return page


def serve(page: gr.Blocks, host: str, port: int, folder: Path, limits: Limits) -> str:
    """Serve the page from background threads, one request at a time, and return its address.

    Raises:
        InputError: the port is in use, or the host is not an address of this machine.
    """
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            inbrowser=False,
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=limits.upload,
            max_threads=4,
            state_session_capacity=SESSIONS,
            allowed_paths=[str(folder)],
            theme=gr.themes.Base(
                font=(gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")),
                font_mono=(gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")),
            ),
            css_paths=[HERE / "page.css"],
        )
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot serve there: {error}; choose another port") from error
    return address


def url_of(path: Path) -> str:
    """Address of a result file, relative to the page."""
    return f"gradio_api/file={quote(str(path))}"


def _reporting(work: Callable[..., tuple], count: int, place: int) -> Callable[..., Any]:
    """Wrap `work` so that an error of the user is shown as a message in output `place` of `count` outputs.

    If `work` is a generator, gradio can end it between two of its outputs.
    """

    def with_message(error: InputError | MemoryError) -> tuple:
        outputs = [gr.skip()] * count
        text = str(error) if isinstance(error, InputError) else "memory ran out; use a smaller picture"
        outputs[place] = message([text], is_error=True)
        return tuple(outputs)

    @wraps(work)  # keeps the signature, in which gradio finds the progress argument
    def reported(*arguments, **settings) -> tuple:
        try:
            return work(*arguments, **settings)
        except (InputError, MemoryError) as error:
            return with_message(error)

    @wraps(work)
    def reported_each(*arguments, **settings) -> Iterator[tuple]:
        try:
            yield from work(*arguments, **settings)
        except (InputError, MemoryError) as error:
            yield with_message(error)

    return reported_each if isgeneratorfunction(work) else reported
