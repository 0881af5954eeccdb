"""Findings about the files of a training set: kinds, severity and remedy, derived from facts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.images.mattes import IN_ALPHA
from data.preparation.image_facts import AlphaFacts, ImageFacts, PhotographFacts, Unusable

Facts = dict[Path, ImageFacts | Unusable]

PROBLEM, NOTE = "problem", "note"
HALF = 128  # level from which a pixel is more opaque than transparent
FLAT = 0.95  # share of two colours from which a picture is a mask; JPEG noise adds other colours along edges

KINDS = {
    "unreadable": (PROBLEM, "fetch the file again, or remove it and its partner"),
    "not-checked": (PROBLEM, "run again with fewer --workers"),
    "no-partner": (PROBLEM, "add the other file, or remove this one"),
    "same-name": (PROBLEM, "rename or remove one of them"),
    "ambiguous": (PROBLEM, "rename or remove files, so that one partner is left"),
    "size-differs": (PROBLEM, "use picture and alpha of one size"),
    "turned-apart": (PROBLEM, "turn the pixels and remove the orientation from the file"),
    "alpha-empty": (PROBLEM, "correct the alpha, or remove the pair"),
    "alpha-full": (PROBLEM, "correct the alpha, or remove the pair"),
    "alpha-colour": (PROBLEM, "save the matte as 8-bit gray"),
    "alpha-transparent": (PROBLEM, "save the matte as 8-bit gray without transparency"),
    "alpha-coding": (PROBLEM, "save the matte as 8-bit gray of 0 to 255"),
    "two-colours": (PROBLEM, "put the photograph there, not its mask"),
    "listed-only": (PROBLEM, "fetch the file, or take the name off the list"),
    "in-test-list": (PROBLEM, "remove the file from the training set"),
    "bg-is-fg": (PROBLEM, "remove the background"),
    "duplicate": (NOTE, "remove one, or it is seen twice as often"),
    "bg-named-as-fg": (NOTE, "check whether it shows the same"),
    "alpha-binary": (NOTE, "a mask teaches hard edges; use a matte"),
    "alpha-channel": (NOTE, "training reads it so; other programs may read the colours"),
    "alpha-faint": (NOTE, "check whether its values are on another scale than 0 to 255"),
    "alpha-jpeg": (NOTE, "set alpha_snap=0.008 (docs/data.md), or use a lossless file"),
    "below-crop": (NOTE, "training enlarges it; use a larger file or a smaller crop"),
    "deep": (NOTE, "it is read as 8 bits; save it so, to decode less"),
    "turned": (NOTE, "it is read upright here; other programs may ignore the orientation"),
    "passed-over": (NOTE, "convert or remove these files"),
    "cmyk": (NOTE, "it is converted without a colour profile; save it as RGB"),
}


@dataclass(frozen=True)
class Finding:
    """One finding about one file.

    Attributes:
        kind: one of `KINDS`.
        own_cure: remedy for this file; empty for the usual one of its kind.
    """

    kind: str
    file: str
    text: str
    own_cure: str = ""

    @property
    def severity(self) -> str:
        """PROBLEM if training stops or learns something wrong, NOTE otherwise."""
        return KINDS[self.kind][0]

    @property
    def cure(self) -> str:
        """Remedy for the finding."""
        return self.own_cure or KINDS[self.kind][1]

    def __str__(self) -> str:
        return f"{self.file}: {self.text}; {self.cure}"


def file_findings(role: str, path: Path, facts: ImageFacts | Unusable, crop_size: int) -> Iterator[Finding]:
    """Findings about one file, without its partner."""
    name = str(path)
    if isinstance(facts, Unusable):
        yield Finding(facts.kind, name, facts.text.removeprefix(f"{name}: "), facts.cure)
        return
    if facts.deep:
        yield Finding("deep", name, f"more than 8 bits in a channel (mode {facts.mode})")
    if facts.mode == "CMYK":
        yield Finding("cmyk", name, "CMYK colours")
    if facts.orientation != 1 and role == "background":  # orientations of pairs are compared elsewhere
        yield Finding("turned", name, f"EXIF orientation {facts.orientation}")
    if isinstance(facts, AlphaFacts):
        yield from _alpha_findings(name, facts)
    if role == "image" and isinstance(facts, PhotographFacts) and facts.two_colours >= FLAT:
        yield Finding("two-colours", name, f"two colours are {facts.two_colours:.1%} of what is visible")
    if role == "image" and min(facts.size) < crop_size:
        height, width = facts.size
        yield Finding("below-crop", name, f"{width} x {height} pixels, smaller than the crop of {crop_size}")


def _alpha_findings(name: str, facts: AlphaFacts) -> Iterator[Finding]:
    is_in_alpha = facts.remark == IN_ALPHA
    if is_in_alpha:
        yield Finding("alpha-channel", name, facts.remark)
    if not facts.gray and not is_in_alpha:
        yield Finding("alpha-colour", name, f"expected gray, found colours (mode {facts.mode})")
    if not facts.opaque and not is_in_alpha:
        yield Finding("alpha-transparent", name, f"the file is transparent itself (mode {facts.mode})")
    if facts.highest == 0:
        yield Finding("alpha-empty", name, "0 everywhere: there is no foreground")
    elif facts.lowest == 255:
        yield Finding("alpha-full", name, "255 everywhere: there is no background")
    elif facts.highest < HALF:
        yield Finding("alpha-faint", name, f"the highest value is {facts.highest} of 255: nothing is half opaque")
    elif facts.soft == 0:
        yield Finding("alpha-binary", name, "only 0 and 255: there is no soft edge")
    if facts.format == "JPEG":
        text = f"JPEG; {facts.ringing:.1%} of the pixels are a level or two from 0 or 255"
        yield Finding("alpha-jpeg", name, text)


def pair_findings(images: dict[str, Path], alphas: dict[str, Path], facts: Facts) -> Iterator[Finding]:
    """Findings about a picture and its alpha."""
    for stem in sorted(images.keys() & alphas.keys()):
        image, alpha = facts[images[stem]], facts[alphas[stem]]
        if isinstance(image, Unusable) or isinstance(alpha, Unusable):
            continue
        name = str(alphas[stem])
        if image.size != alpha.size:
            (height, width), (own_height, own_width) = image.size, alpha.size
            text = f"{own_width} x {own_height} pixels, but {images[stem]} has {width} x {height}"
            yield Finding("size-differs", name, text)
        if image.orientation != alpha.orientation:
            text = f"EXIF orientation {alpha.orientation}, but {images[stem]} has {image.orientation}"
            yield Finding("turned-apart", name, text)
        elif image.orientation != 1:
            yield Finding("turned", name, f"EXIF orientation {image.orientation}, as its picture has")


def shared_findings(files: dict[str, dict[str, Path]], facts: Facts) -> Iterator[Finding]:
    """Findings about pictures that occur more than once, or as foreground and as background."""
    for paths in files.values():
        for first, *others in _same_pixels(paths.values(), facts):
            for path in others:
                yield Finding("duplicate", str(path), f"the same pixels as {first}")
    images, backgrounds = files["image"], files.get("background", {})
    for first, *others in _same_pixels([*images.values(), *backgrounds.values()], facts):
        for path in others if first in images.values() else []:
            if path in backgrounds.values():
                yield Finding("bg-is-fg", str(path), f"the same pixels as the foreground {first}")
    for stem in sorted(images.keys() & backgrounds.keys()):
        yield Finding("bg-named-as-fg", str(backgrounds[stem]), f"the name of the foreground {images[stem]}")


def _same_pixels(paths: Iterable[Path], facts: Facts) -> list[list[Path]]:
    """Groups of files with the same pixels, without mattes of one level."""
    groups = defaultdict(list)
    for path in paths:
        known = facts[path]
        if not isinstance(known, Unusable) and not (isinstance(known, AlphaFacts) and known.lowest == known.highest):
            groups[known.size, known.pixels].append(path)
    return [group for group in groups.values() if len(group) > 1]
