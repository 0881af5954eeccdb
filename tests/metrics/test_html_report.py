import base64
import io
import math
import os
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from metrics import METRICS, score_folders
from metrics.reports.distribution import distribution, round_step
from metrics.reports.page import worst_ranks, write_html
from metrics.reports.pictures import LONG_SIDE, WINDOW, error_map, picture_case, shrink, signed_ramp, worst_window
from metrics.reports.scores import format_value
from runtime.errors import InputError
from runtime.text import natural_order

LAYERS = ["image", "trimap", "truth", "prediction", "error map"]
MARKUP = '"><img src=x onerror="window.ran=1"><script>window.ran=1</script>\'&lt;'  # its slash: a sub-folder
TURNING = "right\u202eleft אב"
NO_TEXT = os.fsdecode(b"caf\xe9\nline")
BIG, LOST, TIE = "clip2/frame10", "clip2/frame9", "clip10/tie"


def write(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def sample(name, shape, generator):
    """A soft disc, a noisy prediction of it, a trimap, and a photograph of noise."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2)
    alpha = np.clip(255 * (min(shape) / 3 - distance) / 30 + 128, 0, 255)
    noise = generator.normal(0, generator.uniform(2, 40), shape)
    trimap = np.where(np.abs(distance - min(shape) / 3) < 24, 128, np.where(alpha > 128, 255, 0))
    pred_alpha = np.where(trimap == 128, np.clip(alpha + noise, 0, 255), trimap)
    photograph = generator.integers(0, 256, (*shape, 3))
    return {
        kind: array.astype(np.uint8)
        for kind, array in zip(
            ("pred", "alpha", "trimap", "image"), (np.rint(pred_alpha), np.rint(alpha), trimap, photograph), strict=True
        )
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Thirteen images in sub-folders: strange names, equal scores, one without unknown pixels, one large."""
    root = tmp_path_factory.mktemp("set")
    generator = np.random.default_rng(5)
    names = [f"clip2/frame{number}" for number in (1, 2, 9, 11)] + [MARKUP, TURNING, "Zebra", "apple", "clip10/empty"]
    for name in names:
        for kind, array in sample(name, (96, 130), generator).items():
            write(root / kind / f"{name}.png", array)
    for kind, array in sample(BIG, (600, 801), generator).items():
        if kind == "pred":
            array[40:50, 700:760] = 255  # in known background, where it does not count
        write(root / kind / f"{BIG}.png", array)
    for kind, array in sample(TIE, (150, 140), generator).items():
        for number in (1, 2, 3):
            write(root / kind / f"{TIE}{number}.png", array)
    empty = root / "trimap" / "clip10" / "empty.png"
    write(empty, np.where(np.array(Image.open(empty)) == 128, 0, 255).astype(np.uint8))
    shutil.copy(root / "alpha" / "apple.png", root / "pred" / "apple.png")  # perfect: its PSNR is infinite
    (root / "image" / f"{LOST}.png").write_bytes(b"no photograph")
    (root / "image" / "apple.png").unlink()
    return root


@pytest.fixture(scope="module")
def evaluation(folders):
    return score_folders(folders / "pred", folders / "alpha", folders / "trimap", metrics=tuple(METRICS))


@pytest.fixture(scope="module")
def report(folders, evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "a report #1.html"
    write_html(path, evaluation, folders / "image", worst=5)
    return path


@pytest.fixture
def open_page(browser):
    """Open a file without a network; afterwards nothing may have been asked for or gone wrong."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, device_scale_factor=1, offline=True)
    requests, complaints = [], []

    def opened(path):
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri())
        page.wait_for_function("Array.from(document.images).every((image) => image.complete)")
        return page

    yield opened
    pages = {page.url.partition("#")[0] for page in context.pages}
    context.close()
    assert complaints == []
    assert [url for url in requests if url.partition("#")[0] not in pages and not url.startswith("data:")] == []


@pytest.fixture
def page(open_page, report):
    return open_page(report)


def screenshot(locator):
    """The pixels of a picture as drawn; one that begins between two pixels is drawn from the nearest."""
    locator.scroll_into_view_if_needed()
    place = {key: math.floor(value + 0.5) for key, value in locator.bounding_box().items()}
    return np.array(Image.open(io.BytesIO(locator.page.screenshot(clip=place))).convert("RGB"))


def decoded(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def shown_name(name):
    return name.replace("\u202e", "\\u202e").replace("\n", "\\n").replace("\udce9", "\\udce9")


def column(page, index):
    cells = page.locator(f"#images tbody tr:not([hidden]) td:nth-child({index + 1})")
    return [text.strip() for text in cells.all_text_contents()]


def cases_shown(page):
    return page.locator(".case:visible h3").all_inner_texts()


def case(page, name):
    return page.locator(".case", has=page.get_by_role("heading", name=shown_name(name), exact=True))


# ---- the page as a browser shows it


def test_the_page_opens_from_a_file_without_a_network_and_every_picture_is_drawn(page):
    widths = page.evaluate("Array.from(document.images, (image) => image.naturalWidth)")
    assert len([width for width in widths if width]) > 40
    unset = page.evaluate("Array.from(document.images).filter((image) => !image.hasAttribute('src')).length")
    assert widths.count(0) == unset == 1  # the empty frame of the enlarged picture


def test_the_page_may_load_nothing_and_run_nothing_but_its_own_script(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    page.evaluate(
        """() => { window.refused = [];
        document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
        const add = (name, settings) => document.body.append(Object.assign(document.createElement(name), settings));
        add('img', {src: 'https://example.org/a.png'}); add('script', {src: 'https://example.org/a.js'});
        add('script', {textContent: 'window.ran = 1'}); add('iframe', {src: 'https://example.org'});
        add('link', {rel: 'stylesheet', href: 'https://example.org/a.css'});
        fetch('https://example.org').catch(() => 0);
        document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.ran = 1">'); }"""
    )
    page.wait_for_function("window.refused.length >= 7")
    assert set(page.evaluate("window.refused")) == {
        "img-src", "script-src-elem", "script-src-attr", "frame-src", "style-src-elem", "connect-src",
    }  # fmt: skip
    assert page.evaluate("window.ran") is None
    page.close()


def test_the_means_and_values_shown_are_those_of_the_evaluation(page, evaluation):
    for metric in METRICS:
        card = page.locator(f'.card[data-metric="{metric}"]')
        assert card.locator(".mean").inner_text() == format_value(metric, evaluation.mean()[metric])
        finite = [score[metric] for score in evaluation.scores.values() if math.isfinite(score[metric])]
        quantiles = [format_value(metric, value) for value in np.quantile(finite, [0, 0.25, 0.5, 0.75, 1])]
        assert card.locator("dd").all_inner_texts() == quantiles
    names = sorted(evaluation.scores, key=natural_order)
    assert column(page, 0) == [shown_name(name) for name in names]
    for index, metric in enumerate(METRICS, 1):
        assert column(page, index) == [format_value(metric, evaluation.scores[name][metric]) for name in names]
    assert column(page, len(METRICS) + 1) == [str(evaluation.scores[name]["pixels"]) for name in names]
    assert page.locator("header code").inner_text() == evaluation.fingerprint
    assert page.locator("h1").inner_text().startswith("13 of 13 images")


def test_the_mean_of_mse_is_told_as_undefined_beside_the_mean_of_the_others(page, evaluation):
    assert page.locator('.card[data-metric="mse"] .mean').inner_text() == "undefined"
    others = format_value("mse", evaluation.mean(skip_undefined=True)["mse"])
    assert f"1 undefined, mean of the other 12: {others}" in page.locator('.card[data-metric="mse"]').inner_text()
    assert "clip10/empty" in page.locator("#without_unknown").inner_text()


def test_an_infinite_psnr_is_counted_and_not_drawn(page, evaluation):
    assert math.isinf(evaluation.scores["apple"]["psnr"])
    card = page.locator('.card[data-metric="psnr"]')
    assert card.locator("p").inner_text().startswith("1 undefined, 1 infinite, mean of the other 11")
    assert card.locator(".at-mean").count() == 0


def test_the_bars_of_each_histogram_add_up_to_the_images(page, evaluation):
    for metric in METRICS:
        bars = page.locator(f'.card[data-metric="{metric}"] rect[data-count]')
        counts = [int(bar.get_attribute("data-count")) for bar in bars.all()]
        finite = sum(math.isfinite(score[metric]) for score in evaluation.scores.values())
        assert sum(counts) == finite
        heights = [float(bar.get_attribute("height")) for bar in bars.all()]
        assert heights == pytest.approx([max(heights) * count / max(counts) for count in counts], abs=0.01)


@pytest.mark.parametrize("keyboard", [False, True], ids=["by click", "by keyboard"])
def test_every_column_sorts_both_ways_as_python_sorts_with_undefined_last(page, evaluation, keyboard):
    names = sorted(evaluation.scores, key=natural_order)
    values = {metric: [evaluation.scores[name][metric] for name in names] for metric in [*METRICS, "pixels"]}
    columns = [list(range(len(names))), *values.values()]
    for index, keys in enumerate(columns):
        head = page.locator("#images thead th").nth(index)
        seen = set()
        for _ in range(2):
            if keyboard:
                head.locator("button").focus()
                page.keyboard.press("Enter")
            else:
                head.locator("button").click()
            direction = head.get_attribute("aria-sort")
            seen.add(direction)
            defined = [(key, name) for key, name in zip(keys, names, strict=True) if not math.isnan(key)]
            undefined = [name for key, name in zip(keys, names, strict=True) if math.isnan(key)]
            expected = [
                name for _, name in sorted(defined, key=lambda pair: pair[0], reverse=direction == "descending")
            ]
            assert column(page, 0) == [shown_name(name) for name in expected + undefined]
            assert page.locator("#images [aria-sort=ascending], #images [aria-sort=descending]").count() == 1
        assert seen == {"ascending", "descending"}


def test_a_first_click_on_a_metric_brings_the_worst_to_the_top(page, evaluation):
    page.get_by_role("button", name="SAD").click()
    worst = max(evaluation.scores, key=lambda name: evaluation.scores[name]["sad"])
    assert column(page, 0)[0] == shown_name(worst)


def test_the_filter_keeps_the_names_that_contain_it(page):
    assert page.locator("#shown").inner_text() == "13 of 13"
    page.fill("#filter", "FRAME1")
    assert column(page, 0) == ["clip2/frame1", BIG, "clip2/frame11"]
    assert page.locator("#shown").inner_text() == "3 of 13"
    page.get_by_role("button", name="Image", exact=True).click()
    assert column(page, 0) == ["clip2/frame11", BIG, "clip2/frame1"]
    page.fill("#filter", "")
    assert len(column(page, 0)) == 13


def test_the_chooser_shows_the_worst_images_by_its_metric_first(page, evaluation):
    for metric in METRICS:
        page.locator(f'.chooser input[value="{metric}"]').check()
        values = {name: score[metric] for name, score in evaluation.scores.items() if not math.isnan(score[metric])}
        expected = sorted(
            sorted(values, key=natural_order), key=values.get, reverse=not METRICS[metric].higher_is_better
        )
        assert cases_shown(page) == [shown_name(name) for name in expected[:5]]
        assert page.locator(".case:visible .chosen").count() == 5
        assert page.locator(".case:visible .chosen dd").first.inner_text() == format_value(metric, values[expected[0]])


def test_a_name_in_the_table_leads_to_its_pictures_even_when_another_metric_is_chosen(page, evaluation):
    ranks = worst_ranks(evaluation, sorted(evaluation.scores, key=natural_order), 5)
    assert page.locator("tbody a").count() == len(ranks) < 13
    for name in ranks:
        page.get_by_role("link", name=shown_name(name), exact=True).click()
        assert case(page, name).is_visible()


def test_names_are_shown_as_text_and_run_nothing(page):
    shown = column(page, 0)
    assert MARKUP in shown
    assert "right\\u202eleft אב" in shown
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0
    page.fill("#filter", MARKUP)
    assert column(page, 0) == [MARKUP]


def test_a_picture_equals_the_files_pixel_for_pixel(few, open_page):
    name = f"{TIE}1"
    write_html(few / "report.html", scored(few), few / "image")
    page = open_page(few / "report.html")
    layers = {kind: np.array(Image.open(few / kind / f"{name}.png")) for kind in ("image", "trimap", "alpha", "pred")}
    error = colours_by_hand(layers["pred"], layers["alpha"], layers["trimap"])
    pictures = case(page, name).locator(".overviews img")
    assert [picture.get_attribute("alt") for picture in pictures.all()] == [f"{layer} of {name}" for layer in LAYERS]
    page.add_style_tag(content=".where { display: none !important }")  # the frame drawn over the photograph
    for picture, layer in zip(pictures.all(), [*layers.values(), error], strict=True):
        expected = layer if layer.ndim == 3 else np.repeat(layer[..., None], 3, axis=2)
        np.testing.assert_array_equal(screenshot(picture), expected)


def test_the_crop_shows_each_pixel_at_the_worst_place_as_a_square_of_four(page, folders):
    pred_alpha, alpha, trimap = (
        np.array(Image.open(folders / kind / f"{BIG}.png")) for kind in ("pred", "alpha", "trimap")
    )
    page.locator('.chooser input[value="sad"]').check()
    x, y = map(int, re.search(r"x (\d+), y (\d+)", case(page, BIG).locator(".crop-note").inner_text()).groups())
    error = np.abs(pred_alpha.astype(float) - alpha) * (trimap == 128)
    # The filter's windows are centred, on the pixel right of the middle as their side is even.
    sums = uniform_filter(error, WINDOW, mode="constant")[64:-63, 64:-63]
    assert sums[y, x] == pytest.approx(sums.max())
    crop = np.s_[y : y + WINDOW, x : x + WINDOW]
    for index, expected in (
        (3, np.repeat(pred_alpha[..., None], 3, 2)),
        (4, colours_by_hand(pred_alpha, alpha, trimap)),
    ):
        shown = screenshot(case(page, BIG).locator(".crops img").nth(index))
        np.testing.assert_array_equal(shown, expected[crop].repeat(2, axis=0).repeat(2, axis=1))


def test_a_click_enlarges_a_picture_and_arrows_flip_through_the_layers(page, folders):
    page.locator('.chooser input[value="sad"]').check()
    case(page, BIG).locator(".crops .shot").nth(2).click()
    big = page.locator("dialog img")
    truth = screenshot(big)
    assert truth.shape == (7 * WINDOW, 7 * WINDOW, 3)  # whole pixels, as large as the window allows
    assert (truth[::7, ::7] == decoded(big.get_attribute("src"))[..., None]).all()
    assert page.locator("dialog p").inner_text().startswith(f"truth of {BIG}, detail")
    page.keyboard.press("ArrowRight")
    assert big.get_attribute("alt") == f"prediction of {BIG}, detail"
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert big.get_attribute("alt") == f"image of {BIG}, detail"
    page.keyboard.press("ArrowLeft")
    assert big.get_attribute("alt") == f"error map of {BIG}, detail"
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_whole_page_is_drawn_in_either_scheme_and_fits_its_width(page, scheme):
    page.emulate_media(color_scheme=scheme)
    shot = np.array(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"))
    assert shot.shape[1] == 1400
    assert shot.shape[0] > 2000
    assert (np.median(shot) > 200) == (scheme == "light")
    blank_rows = np.ptp(shot, axis=1) == 0
    longest_gap = max(end - start for start, end in pairwise([-1, *np.flatnonzero(~blank_rows), len(shot)]))
    assert longest_gap < 150
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_in_print_the_controls_are_left_out_and_the_pictures_kept(page):
    page.emulate_media(media="print")
    assert not page.locator("#filter").is_visible()
    assert page.locator(".case:visible img").first.is_visible()


def test_a_thousand_images_sort_and_filter_quickly(open_page, evaluation, tmp_path):
    generator = np.random.default_rng(0)
    names = [f"image_{number}" for number in range(1000)]
    item = next(iter(evaluation.items.values()))
    score = next(iter(evaluation.scores.values()))
    many = type(evaluation)("unknown", 1000, metrics=("sad",))
    many.scores = {name: score | {"sad": generator.random()} for name in names}
    many.items = dict.fromkeys(names, item)
    write_html(tmp_path / "many.html", many, worst=0)
    page = open_page(tmp_path / "many.html")
    spent = page.evaluate(
        """() => { const start = performance.now();
        document.querySelectorAll('thead button')[1].click(); document.body.offsetHeight;
        const filter = document.getElementById('filter'); filter.value = '99';
        filter.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - start; }"""
    )
    assert spent < 2000  # milliseconds; some fifty on an idle machine
    assert column(page, 0) == sorted((n for n in names if "99" in n), key=lambda n: -many.scores[n]["sad"])


# ---- sets that are not whole


@pytest.fixture
def few(folders, tmp_path):
    """Three small images whose files a test may spoil."""
    for kind in ("pred", "alpha", "trimap", "image"):
        for name in ("Zebra", f"{TIE}1", "clip2/frame1"):
            file = tmp_path / kind / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folders / kind / f"{name}.png", file)
    return tmp_path


def scored(few, **options):
    return score_folders(few / "pred", few / "alpha", few / "trimap", **options)


def test_a_set_with_a_failed_image_has_no_mean_and_says_why(few, open_page):
    (few / "pred" / "Zebra.png").write_bytes(b"<b>no</b>")
    broken = scored(few)
    write_html(few / "report.html", broken, few / "image")
    page = open_page(few / "report.html")
    assert page.locator(".mean").all_inner_texts() == ["no mean"] * 4
    notice = page.locator("#failed").inner_text()
    assert "1 of 3 images could not be scored" in notice
    assert broken.failed["Zebra"] in notice
    assert page.locator(".at-mean").count() == 0
    assert len(column(page, 0)) == 2


def test_missing_predictions_are_named(few, open_page):
    (few / "pred" / "Zebra.png").unlink()
    write_html(few / "report.html", scored(few, allow_missing=True))
    page = open_page(few / "report.html")
    assert page.locator("h1").inner_text().startswith("2 of 3 images")
    assert "1 of 3 are missing" in page.locator("#missing").inner_text()
    assert page.locator("#missing li").all_inner_texts() == ["Zebra"]
    assert "missing predictions allowed" in page.locator(".facts").inner_text()


def test_a_set_of_which_nothing_could_be_scored_still_makes_a_page(few, open_page):
    for file in (few / "alpha").rglob("*.png"):
        file.write_bytes(b"no")
    write_html(few / "report.html", scored(few), few / "image")
    page = open_page(few / "report.html")
    assert page.locator("#failed li").count() == 3
    assert page.locator(".case, .histogram").count() == 0


def test_a_file_that_vanished_after_scoring_is_told_in_its_place(few, open_page):
    result = scored(few)
    (few / "pred" / "Zebra.png").unlink()
    (few / "trimap" / "clip2" / "frame1.png").write_bytes(b"no")
    write_html(few / "report.html", result)
    page = open_page(few / "report.html")
    told = case(page, "Zebra").locator(".lost").all_inner_texts()
    assert str(few / "pred" / "Zebra.png") in told[0]
    assert case(page, "Zebra").locator("img").count() == 2
    assert "not a readable image" in case(page, "clip2/frame1").locator(".lost").first.inner_text()


def test_photographs_that_are_missing_unreadable_or_of_another_size_do_not_lose_the_report(few, open_page):
    (few / "image" / "Zebra.png").write_bytes(b"no")
    (few / "image" / "clip2" / "frame1.png").unlink()
    write(few / "image" / f"{TIE}1.png", np.zeros((20, 30, 3), np.uint8))
    write_html(few / "report.html", scored(few), few / "image")
    page = open_page(few / "report.html")
    assert "not a readable image" in case(page, "Zebra").locator(".lost").inner_text()
    assert "no photograph of this name" in case(page, "clip2/frame1").locator(".lost").inner_text()
    assert case(page, f"{TIE}1").locator(".lost").inner_text() == "30 x 20 pixels, the truth 140 x 150"


def test_without_photographs_or_trimaps_their_columns_are_left_out(few, open_page):
    whole = score_folders(few / "pred", few / "alpha", region="whole")
    write_html(few / "report.html", whole)
    page = open_page(few / "report.html")
    assert case(page, "Zebra").locator("figcaption").all_inner_texts() == ["truth", "prediction", "error map"]
    assert "not scored" not in page.locator(".legend").inner_text()


@pytest.mark.parametrize("kind", ["pred", "image"])
def test_photographs_are_found_though_predictions_or_they_have_no_sub_folders(few, kind):
    for folder in ("pred", "alpha", "trimap", "image"):
        for file in (few / folder).glob("Zebra.*"):
            file.unlink()  # no name may agree as it stands
    for file in [file for file in (few / kind).rglob("*") if file.is_file()]:
        shutil.move(file, few / kind / file.name)
    evaluation = scored(few)
    assert any("/" in name for name in evaluation.scores)
    write_html(few / "report.html", evaluation, few / "image")
    assert "no photograph" not in (few / "report.html").read_text(encoding="utf-8")


def test_names_that_are_no_text_still_make_a_page_of_utf_8(few, open_page):
    try:
        for kind in ("pred", "alpha", "trimap"):
            (few / kind / "Zebra.png").rename(few / kind / f"{NO_TEXT}.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    write_html(few / "report.html", scored(few))
    (few / "report.html").read_bytes().decode("utf-8")
    assert "caf\\udce9\\nline" in column(open_page(few / "report.html"), 0)


def test_a_folder_of_photographs_that_is_none_is_refused(few):
    with pytest.raises(InputError, match="expected a folder"):
        write_html(few / "report.html", scored(few), few / "nowhere")
    assert not (few / "report.html").exists()


def test_the_same_evaluation_makes_the_same_page(few):
    for file in ("a.html", "b.html"):
        write_html(few / file, scored(few), few / "image")
    assert (few / "a.html").read_bytes() == (few / "b.html").read_bytes()


def test_clips_are_listed_with_their_mean_over_clips(folders, tmp_path, open_page):
    for kind in ("pred", "alpha", "trimap"):
        for frame in (1, 2, 9, 11):
            for clip in ("a9", "a10"):
                file = tmp_path / kind / clip / f"frame{frame if clip == 'a9' else 13 - frame}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folders / kind / "clip2" / f"frame{frame}.png", file)
    result = scored(tmp_path, sequences=True)
    write_html(tmp_path / "report.html", result)
    page = open_page(tmp_path / "report.html")
    assert page.locator("#clips tbody td:first-child").all_inner_texts() == ["a9", "a10"]
    steadiness = result.sequences["a9"]
    row = page.locator("#clips tbody tr").first.locator("td").all_inner_texts()
    assert row == ["a9", f"{steadiness['dtssd']:.4f}", f"{1000 * steadiness['messddt']:.4f}", "3"]
    foot = page.locator("#clips tfoot td").all_inner_texts()
    assert foot[1:3] == [f"{result.sequence_mean()['dtssd']:.4f}", f"{1000 * result.sequence_mean()['messddt']:.4f}"]
    page.locator("#clips").get_by_role("button", name="Clip", exact=True).click()
    assert page.locator("#clips tbody td:first-child").all_inner_texts() == ["a10", "a9"]


# ---- the pictures


def colours_by_hand(pred_alpha, alpha, trimap):
    """The colours of an error map, pixel by pixel."""
    picture = np.empty((*alpha.shape, 3), np.uint8)
    for place in np.ndindex(alpha.shape):
        error = (int(pred_alpha[place]) - int(alpha[place])) / 255
        end = (190, 30, 45) if error > 0 else (25, 95, 180)
        for channel in range(3):
            value = 255 + (end[channel] - 255) * math.sqrt(abs(error))
            picture[place][channel] = round(value if trimap[place] == 128 else 0.3 * value + 0.7 * 208)
    return picture


def test_the_error_map_colours_the_signed_error():
    pred_alpha = np.array([[255, 0, 7, 64, 0, 200]], np.uint8)
    alpha = np.array([[0, 255, 7, 0, 64, 200]], np.uint8)
    #                                                  64 / 255 has the root 0.501
    scored = [(190, 30, 45), (25, 95, 180), (255, 255, 255), (222, 142, 150), (140, 175, 217), (255, 255, 255)]
    np.testing.assert_array_equal(error_map(pred_alpha, alpha), [scored])
    trimap = np.array([[128, 128, 128, 0, 127, 255]], np.uint8)
    dimmed = [(212, 188, 191), (188, 198, 211), (222, 222, 222)]  # 0.3 of it and 0.7 of 208
    np.testing.assert_array_equal(error_map(pred_alpha, alpha, trimap), [scored[:3] + dimmed])


def test_the_legend_goes_from_the_most_transparent_to_the_most_opaque():
    pred_alpha, alpha = signed_ramp()
    errors = pred_alpha.astype(int) - alpha
    assert (np.diff(errors, axis=1) > 0).all()
    assert (errors[0, 0], errors[0, -1]) == (-255, 255)


def test_the_window_holds_the_largest_error_wherever_it_is():
    error = np.zeros((300, 400), np.uint8)
    error[250:260, 390:400] = 200
    error[20, 20] = 255
    window = worst_window(error, side=64)
    assert (window.width, window.height) == (64, 64)
    assert window.x == 400 - 64  # as near to the middle as the border lets it
    assert window.y <= 250 - 20
    assert window.y + 64 >= 260 + 20


def test_the_window_is_centred_on_a_single_wrong_pixel():
    error = np.zeros((301, 401), np.uint8)
    error[150, 200] = 3
    window = worst_window(error, side=65)
    assert (window.x + 32, window.y + 32) == (200, 150)


@pytest.mark.parametrize("shape", [(40, 50), (200, 50), (50, 200), (131, 177)])
def test_the_window_has_the_largest_sum_of_all(shape):
    error = (np.random.default_rng(shape[0]).random(shape) ** 9 * 255).astype(np.uint8)
    window = worst_window(error, side=60)
    assert (window.height, window.width) == (min(60, shape[0]), min(60, shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(error.astype(int), (window.height, window.width))
    sums = views.sum((2, 3))
    assert sums[window.y, window.x] == sums.max()


def test_without_an_error_there_is_no_window():
    assert worst_window(np.zeros((300, 300), np.uint8)) is None


def test_pictures_are_shrunk_by_area_averaging_and_never_enlarged():
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    averaged = image.reshape(240, 2, 320, 2, 3).mean((1, 3))
    np.testing.assert_allclose(shrink(image), averaged, atol=0.51)
    small = image[:50, :LONG_SIDE]
    np.testing.assert_array_equal(shrink(small), small)
    assert shrink(image[:1, :, 0]).shape == (1, 320)
    assert shrink(image[:, :100]).shape == (320, 67, 3)


def test_one_wrong_hair_is_seen_in_the_overview():
    pred_alpha, alpha = np.zeros((2, 960, 960), np.uint8)
    alpha[:, 480] = 255
    overview = shrink(error_map(pred_alpha, alpha))
    np.testing.assert_array_equal(overview[100, 160], np.rint((np.array([25, 95, 180]) + 2 * 255) / 3))


def test_the_pictures_of_a_case_are_those_of_its_files(folders, evaluation):
    shown = picture_case(evaluation.cases[BIG], photographs={BIG: folders / "image" / f"{BIG}.png"})
    assert [picture.title for picture in shown.pictures] == LAYERS
    assert shown.size == (801, 600)
    assert all(decoded(picture.overview).shape[:2] == (240, 320) for picture in shown.pictures)
    truth = np.array(Image.open(folders / "alpha" / f"{BIG}.png"))
    x, y, width, height = shown.window
    np.testing.assert_array_equal(decoded(shown.pictures[2].crop), truth[y : y + height, x : x + width])


def test_trimaps_are_pictured_as_they_were_scored(few):
    file = few / "trimap" / "Zebra.png"
    trimap = np.array(Image.open(file))
    write(file, np.where(trimap == 128, 127, trimap).astype(np.uint8))
    shown = picture_case(scored(few, quantise_trimaps=True).cases["Zebra"], quantise_trimaps=True)
    np.testing.assert_array_equal(decoded(shown.pictures[0].overview), trimap)


# ---- the distribution


def test_the_distribution_counts_every_value_once():
    generator = np.random.default_rng(2)
    for values in (generator.gamma(2, 9, 1000), generator.normal(size=14), [3.0], [0.0, 0.0], [5e-9, 6e-9], [-2, 1e6]):
        spread = distribution(values)
        assert sum(spread.counts) == spread.n == len(values)
        edges = spread.start + spread.step * np.arange(len(spread.counts) + 1)
        assert edges[0] <= min(values) + 1e-9 * spread.step
        assert edges[-1] >= max(values) - 1e-9 * spread.step
        if len(values) > 2:
            np.testing.assert_array_equal(np.histogram(values, edges)[0], spread.counts)


def test_the_distribution_leaves_out_what_is_not_finite_and_counts_it():
    spread = distribution([1.0, math.nan, 3.0, math.inf, 2.0])
    assert (spread.n, spread.undefined, spread.infinite) == (3, 1, 1)
    assert (spread.minimum, spread.median, spread.maximum) == (1, 2, 3)
    assert distribution([math.nan]).counts == []


def test_bins_have_round_widths():
    assert [round_step(value) for value in (1, 1.9, 2, 4.9, 0.07, 730)] == pytest.approx([1, 1, 2, 2, 0.05, 500])


def test_names_sort_by_the_numbers_in_them():
    names = ["b", "a10", "a9", "A1", "a", "10", "9", "a/2", "a/10"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "A1", "a9", "a10", "a/2", "a/10", "b"]


def test_values_that_differ_in_the_last_bit_make_one_bar():
    low = 0.1 + 0.2
    values = [low, math.nextafter(low, 1), math.nextafter(low, 0), 0.3]
    assert sum(distribution(values).counts) == 4
