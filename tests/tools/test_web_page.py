"""The web page in a browser: upload, mark, cut out, download, and what goes wrong; by mouse, keys and on a phone."""

import io
import json
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from clips import write_clip
from jobs import free_port
from PIL import Image

from data.video import open_clip
from engine.inference import Matting
from runtime.errors import InputError
from tools.web.work import Limits

SIZE = (200, 300)  # height, width
BOX = (80, 50, 220, 150)
FRAMES = 7
PATIENCE = 60_000  # milliseconds, on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of pandas, in gradio


def picture() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    alpha = np.clip((1 - np.hypot((rows - 100) / 40, (columns - 150) / 60)) * 6 + 0.5, 0, 1)[..., None]
    noise = np.random.default_rng(0).integers(0, 50, (*SIZE, 3))
    return np.rint(alpha * [230, 110, 20] + (1 - alpha) * (np.array([10, 60, 150]) + noise)).astype(np.uint8)


@pytest.fixture(scope="module")
def matting():
    return Matting(device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The server's folder of results."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def address(matting, folder):
    pytest.importorskip("gradio", reason="needs gradio (requirements/web.txt)")
    from tools.web.layout import build_page, serve

    limits = Limits(megapixels=1, upload=2_000_000, clip_frames=FRAMES)
    page = build_page(matting, folder, limits)
    yield serve(page, "127.0.0.1", free_port(), folder, limits)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(picture()).save(folder / "photo (1).png")
    Image.fromarray(np.where(picture()[..., :1] > 120, 255, 0).astype(np.uint8)[..., 0]).save(folder / "mask.png")
    (folder / "<img src=x onerror=window.ran=1>.png").write_bytes(b"no picture")
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    Image.new("L", (1001, 1000)).save(folder / "large.png")
    (folder / "heavy.png").write_bytes(bytes(2_100_000))
    Image.fromarray(picture()).convert("CMYK").save(folder / "print.jpg", quality=95)
    moving = [np.roll(picture(), 2 * index, axis=1) for index in range(FRAMES)]
    write_clip(folder / "my clip.mp4", moving)
    write_clip(folder / "long.mp4", [*moving, picture()], sound=None)
    write_clip(folder / "cut.mp4", [*moving[:3], 255 - moving[3]], sound=None)
    (folder / "torn.mov").write_bytes((folder / "my clip.mp4").read_bytes()[:5000])
    images = [Image.fromarray(image) for image in moving]
    images[0].save(folder / "moving.gif", save_all=True, append_images=images[1:], duration=40)
    return folder


@pytest.fixture
def opened(browser, address):
    """Open the page; afterwards nothing may have been asked for elsewhere, and no script of it may have failed."""
    contexts, requests, failures = [], [], []

    def open_page(**settings):
        context = browser.new_context(viewport={"width": 1200, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#surface canvas", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


def upload(page, path) -> None:
    page.set_input_files("#upload input[type=file]", path)
    page.wait_for_selector("#surface .loaded canvas, .loaded#surface canvas")
    page.wait_for_function("document.querySelector('#status').innerText.includes('Mark the subject')")


def drag(page, *places) -> None:
    """Press, move and release the mouse at places x, y of the picture."""
    frame = page.locator("#surface canvas").bounding_box()
    for index, (x, y) in enumerate(places):
        page.mouse.move(frame["x"] + x / SIZE[1] * frame["width"], frame["y"] + y / SIZE[0] * frame["height"], steps=4)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def marks(page) -> dict:
    return json.loads(page.locator("[data-marks]").get_attribute("data-marks"))


def cut_out(page) -> None:
    page.click("#run")
    page.wait_for_selector(".results img")
    page.wait_for_function("Array.from(document.images).every((image) => image.complete && image.naturalWidth)")


def downloaded(page, title: str) -> tuple[str, np.ndarray]:
    with page.expect_download() as download:
        page.click(f".downloads a:text-is('{title}')")
    return download.value.suggested_filename, np.asarray(Image.open(io.BytesIO(download.value.path().read_bytes())))


def test_a_box_a_correction_by_brush_and_the_results(opened, pictures, matting):
    page = opened()
    upload(page, pictures / "photo (1).png")
    drag(page, BOX[:2], BOX[2:])
    box = marks(page)["box"]
    assert np.abs(np.subtract(box, BOX)).max() <= 1
    page.click("#show")
    page.wait_for_function("document.querySelector('#status').innerText.includes('The trimap is shown')")
    cut_out(page)
    alpha, colours = matting.predict(picture(), box=tuple(box), foreground=True)
    levels = np.rint(alpha * 255)
    name, written = downloaded(page, "Alpha")
    assert name == "photo_1_alpha.png"
    np.testing.assert_array_equal(written, levels)
    _, cutout = downloaded(page, "Cut-out")
    np.testing.assert_array_equal(cutout, np.dstack([np.rint(colours * 255), levels]))
    _, composite = downloaded(page, "Composite")
    assert composite[0, 0].tolist() == [0x1E, 0x90, 0xFF]

    page.click("[data-tool=background]")
    page.fill("#surface .size", "20")
    drag(page, (150, 60), (150, 140))  # through the subject
    (stroke,) = marks(page)["strokes"]
    assert (stroke["level"], stroke["radius"]) == ("background", 20)
    before = page.locator(".results img").first.get_attribute("src")
    page.click("#run")
    page.wait_for_function(f"document.querySelector('.results img').getAttribute('src') !== {json.dumps(before)}")
    _, corrected = downloaded(page, "Alpha")
    assert corrected[100, 150] == 0 < levels[100, 150]
    _, trimap = downloaded(page, "Trimap")
    assert trimap[100, 150] == 0

    page.click("[data-act=undo]")
    assert marks(page)["strokes"] == []
    width = page.locator(".results img").first.bounding_box()["width"]
    page.fill(".results input[type=range]", "4")
    assert page.locator(".results img").first.bounding_box()["width"] == pytest.approx(4 * width, rel=0.01)
    places = "Array.from(document.querySelectorAll('.window')).map((window) => [window.scrollLeft, window.scrollTop])"
    assert page.evaluate(places)[0][0] == pytest.approx(1.5 * width, abs=0.2 * width)  # the subject is in the middle
    page.locator(".window").nth(1).evaluate("(window) => { window.scrollLeft = 40; window.scrollTop = 30; }")
    page.wait_for_function(f"({places}).every(([left, top]) => left === 40 && top === 30)")


def test_a_painted_trimap_on_a_phone(opened, pictures, matting):
    page = opened(has_touch=True, is_mobile=True)
    page.set_viewport_size({"width": 360, "height": 740})
    upload(page, pictures / "photo (1).png")
    for tool, radius, places in (
        ("unknown", 30, ((90, 100), (210, 100))),
        ("foreground", 10, ((130, 100), (170, 100))),
    ):
        page.click(f"[data-tool={tool}]")
        page.fill("#surface .size", str(radius))
        page.locator("#surface canvas").scroll_into_view_if_needed()
        drag(page, *places)
    cut_out(page)
    _, trimap = downloaded(page, "Trimap")
    assert (trimap[100, 150], trimap[100, 210], trimap[5, 5]) == (255, 128, 0)
    _, alpha = downloaded(page, "Alpha")
    np.testing.assert_array_equal(alpha, np.rint(matting.predict(picture(), trimap, crop=True) * 255))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    buttons = page.locator("#surface button:visible").all()
    assert min(button.bounding_box()["height"] for button in buttons) >= 40


def test_the_keyboard_alone_marks_and_cuts_out(opened, pictures):
    page = opened()
    upload(page, pictures / "photo (1).png")
    page.focus("#surface canvas")
    for key, times in (("ArrowLeft", 12), ("ArrowUp", 9), ("Space", 1), ("ArrowRight", 24), ("ArrowDown", 18),
                       ("Shift+ArrowDown", 2), ("Enter", 1)):  # fmt: skip
        for _ in range(times):
            page.keyboard.press(key)
    assert marks(page)["box"] == [150 - 72, 100 - 54, 150 + 72, 100 + 54 + 2]  # a step is a fiftieth of 300 pixels
    page.focus("[data-tool=inside]")
    page.keyboard.press("Enter")
    page.focus("#surface canvas")
    page.keyboard.press("Space")
    page.keyboard.press("Control+z")
    assert marks(page)["inside"] == []
    page.focus("#run")
    page.keyboard.press("Enter")
    page.wait_for_selector(".results img")
    page.focus(".results input[type=range]")
    page.keyboard.press("ArrowRight")
    assert "1.5" in page.locator(".results").get_attribute("style")
    page.keyboard.press("Tab")
    assert "window" in page.evaluate("document.activeElement.className")


def fails(page, path, text: str) -> None:
    page.set_input_files("#upload input[type=file]", path)
    page.wait_for_function(f"document.body.innerText.includes({json.dumps(text)})")
    if path.name != "heavy.png":  # which never arrives
        page.click("#upload button[aria-label=Clear]")
        page.wait_for_selector("#upload input[type=file]", state="attached")


def test_bad_uploads_are_messages_in_the_page_and_the_server_lives_on(opened, pictures):
    page = opened()
    page.click("#run")
    page.wait_for_function("document.querySelector('#status').innerText.includes('choose a file first')")
    fails(page, pictures / "<img src=x onerror=window.ran=1>.png", "not a readable image")
    fails(page, pictures / "moving.webp", "moving.webp: expected a single image, found several frames")
    fails(page, pictures / "large.png", "over this page's limit of 1 megapixels")
    fails(page, pictures / "heavy.png", "exceed the maximum allowed size")
    assert page.evaluate("window.ran") is None
    upload(page, pictures / "print.jpg")
    page.click("#run")
    page.wait_for_function("document.querySelector('#status').innerText.includes('the subject is not marked')")
    page.click("[data-tool=foreground]")
    drag(page, (120, 100), (180, 100))
    page.click("#run")
    page.wait_for_function("document.querySelector('#status').innerText.includes('Nothing is unknown')")
    page.wait_for_selector(".results img")


def test_two_browsers_take_turns_and_a_tab_closed_midway_harms_no_one(opened, pictures, matting, monkeypatch):
    first, second = opened(), opened()
    for page, box in ((first, BOX), (second, (60, 40, 240, 160))):
        upload(page, pictures / "photo (1).png")
        drag(page, box[:2], box[2:])
    running, calls, begun = [], [], threading.Event()
    ordinary = matting.predict

    def counted(*arguments, **settings):
        running.append(1)
        calls.append(len(running))
        begun.set()
        time.sleep(1)  # so that the other request comes, and the tab is closed, while this one runs
        try:
            return ordinary(*arguments, **settings)
        finally:
            running.pop()

    monkeypatch.setattr(matting, "predict", counted)
    first.click("#run")
    assert begun.wait(PATIENCE / 1000)
    second.click("#run")
    first.close()
    second.wait_for_selector(".results img")
    assert calls == [1, 1]
    box = tuple(marks(second)["box"])
    np.testing.assert_array_equal(downloaded(second, "Alpha")[1], np.rint(ordinary(picture(), box=box) * 255))


def mark(page, path, box=BOX) -> tuple[int, ...]:
    """Upload a file and draw a box; returns it as the page has it."""
    upload(page, path)
    drag(page, box[:2], box[2:])
    return tuple(marks(page)["box"])


def cut_out_clip(page) -> None:
    page.click("#run")
    page.wait_for_selector(".results video")
    page.wait_for_function("Array.from(document.querySelectorAll('video')).every((video) => video.readyState >= 2)")


def downloaded_file(page, title: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(f".downloads a:text-is('{title}')")
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.mark.parametrize(("width", "height"), [(1200, 900), (360, 740)])
def test_a_clip_is_cut_out_from_a_box_in_its_first_frame(opened, pictures, matting, tmp_path, width, height):
    page = opened()
    page.set_viewport_size({"width": width, "height": height})
    box = mark(page, pictures / "my clip.mp4")
    assert f"300 x 200 pixels, {FRAMES} frames, 0.2 s." in page.inner_text("#status")
    cut_out_clip(page)
    assert "its sound (aac) cannot be copied into webm" in page.inner_text("#status")
    outputs = {"alpha": tmp_path / "a.mp4", "rgba": tmp_path / "c.webm"}
    list(matting.predict_clip(pictures / "my clip.mp4", outputs, box=box))
    for title, kind, suggested in (("Alpha (.mp4)", "alpha", "my_clip_alpha.mp4"),
                                   ("Cut-out (.webm)", "rgba", "my_clip_cutout.webm")):  # fmt: skip
        name, content = downloaded_file(page, title)
        (tmp_path / name).write_bytes(content)
        assert name == suggested
        with open_clip(tmp_path / name) as found, open_clip(outputs[kind]) as expected:
            for frame, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(frame.image, other.image)
    _, content = downloaded_file(page, "Composite (.mp4)")
    (tmp_path / "composite.mp4").write_bytes(content)
    with open_clip(tmp_path / "composite.mp4") as clip:
        corners = [frame.image[0, 0] for frame in clip]
    assert np.abs(np.array(corners, int) - (0x1E, 0x90, 0xFF)).max() < 12
    assert len(corners) == FRAMES
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # the clips play together
    page.locator("video").first.evaluate("(video) => video.play()")
    page.wait_for_function("Array.from(document.querySelectorAll('video')).every((video) => !video.paused)")
    page.locator("video").last.evaluate("(video) => video.pause()")
    page.wait_for_function("Array.from(document.querySelectorAll('video')).every((video) => video.paused)")


def test_frames_of_a_gif_are_an_archive_and_the_keyboard_is_enough(opened, pictures, matting, tmp_path):
    page = opened()
    upload(page, pictures / "moving.gif")
    page.focus("#surface canvas")
    for key in [*["ArrowLeft"] * 12, *["ArrowUp"] * 9, "Space", *["ArrowRight"] * 24, *["ArrowDown"] * 18, "Enter"]:
        page.keyboard.press(key)
    box = tuple(marks(page)["box"])
    page.focus("#files input")
    for key in ("Tab", "Tab", "Space"):  # gradio's choices are reached one by one
        page.keyboard.press(key)
    page.wait_for_selector("#files label.selected input[value=frames]", state="attached")
    page.focus("#run")
    page.keyboard.press("Enter")
    page.wait_for_selector(".results video")
    assert page.locator(".results video").count() == 1  # only the composite can be played
    list(matting.predict_clip(pictures / "moving.gif", {"rgba": tmp_path / "c" / "%06d.png"}, box=box))
    name, content = downloaded_file(page, "Cut-out (.zip)")
    assert name == "moving_cutout.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        numbered = [f"moving_cutout/{index:06d}.png" for index in range(1, FRAMES + 1)]
        assert archive.namelist() == [*numbered, "moving_cutout/timestamps.txt"]
        for file in numbered:
            assert archive.read(file) == (tmp_path / "c" / file.rpartition("/")[2]).read_bytes()
    assert downloaded_file(page, "Alpha (.zip)")[0] == "moving_alpha.zip"


@pytest.fixture
def slowly(matting, monkeypatch):
    """Clips are matted slowly; returns the events of the first frame and of the end."""
    begun, ended, ordinary = threading.Event(), threading.Event(), matting.predict_clip

    def slow(*arguments, **settings):
        try:
            for frames in ordinary(*arguments, **settings):
                begun.set()
                time.sleep(1)
                yield frames
        finally:
            ended.set()

    monkeypatch.setattr(matting, "predict_clip", slow)
    return begun, ended


def test_a_clip_is_cancelled_and_the_next_request_runs(opened, pictures, folder, slowly):
    page, other = opened(), opened()
    begun, ended = slowly
    before = set(folder.iterdir())
    mark(page, pictures / "my clip.mp4")
    mark(other, pictures / "photo (1).png")
    assert page.is_disabled("#cancel")
    page.click("#run")
    assert begun.wait(PATIENCE / 1000)
    page.wait_for_function(f"document.querySelector('#status').innerText.includes('of {FRAMES}')")
    other.click("#run")  # waits in the queue
    page.click("#cancel")
    page.wait_for_function("document.querySelector('#status').innerText.includes('Cancelled.')")
    assert ended.wait(PATIENCE / 1000)
    other.wait_for_selector(".results img")
    assert "Cancelled." in page.inner_text("#status")
    assert page.is_disabled("#cancel")
    assert len(set(folder.iterdir()) - before) == 1  # the other's


def test_a_tab_that_is_closed_midway_ends_its_clip(opened, pictures, folder, slowly):
    first, second = opened(), opened()
    begun, ended = slowly
    before = set(folder.iterdir())
    mark(first, pictures / "my clip.mp4")
    first.click("#run")
    assert begun.wait(PATIENCE / 1000)
    first.close()
    assert ended.wait(PATIENCE / 1000)
    mark(second, pictures / "photo (1).png")
    cut_out(second)
    assert len(set(folder.iterdir()) - before) == 1


def test_bad_clips_are_messages_in_the_page_and_the_server_lives_on(opened, pictures, folder, monkeypatch):
    page = opened()
    before = set(folder.iterdir())
    fails(page, pictures / "long.mp4", f"long.mp4: is over this page's limit of {FRAMES} frames; cut it shorter")
    fails(page, pictures / "torn.mov", "torn.mov: expected a video file, found a file that is not a video, is damaged")
    mark(page, pictures / "cut.mp4")
    page.click("#run")
    page.wait_for_selector("#status .error")
    assert "cut.mp4: expected a key frame in each scene, found none in frames 4 to 4" in page.inner_text("#status")
    monkeypatch.setitem(sys.modules, "av", None)
    page.click("#upload button[aria-label=Clear]")
    page.wait_for_selector("#upload input[type=file]", state="attached")
    fails(page, pictures / "my clip.mp4", "video files need PyAV: install it with `pip install -r requirements")
    monkeypatch.undo()
    mark(page, pictures / "photo (1).png")
    cut_out(page)
    assert len(set(folder.iterdir()) - before) == 1


def test_nothing_is_reported_and_files_of_the_server_stay_there(address):
    import gradio

    page = urllib.request.urlopen(address).read().decode()
    config = json.loads(urllib.request.urlopen(f"{address}config").read())
    assert config["analytics_enabled"] is False
    assert "fonts.googleapis" not in page
    for path in ("/etc/passwd", gradio.__file__):
        with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
            urllib.request.urlopen(f"{address}gradio_api/file={path}")


def test_a_port_that_is_taken_is_one_line(address, matting, tmp_path):
    from tools.web.layout import build_page, serve

    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match=f"--port {port}: cannot serve there"):
        serve(build_page(matting, tmp_path, Limits()), "127.0.0.1", port, tmp_path, Limits())
