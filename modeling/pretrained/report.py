"""Report of a conversion: the destination of every source tensor, and the origin of every tensor of the model."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_GROUPS = (
    ("patch embedding", re.compile(r"patch_embed\.")),
    ("tokens", re.compile(r"(cls_token|storage_tokens)$")),
    ("positions", re.compile(r"(pos_embed(\.patches)?$|rope_embed\.|.*blocks\.\d+\.attn\.rel(_pos|ative_position)_)")),
    ("attention", re.compile(r"(layers\.\d+\.)?blocks\.\d+\.attn\.")),
    ("feed-forward", re.compile(r"(layers\.\d+\.)?blocks\.\d+\.mlp\.")),
    ("LayerScale", re.compile(r"blocks\.\d+\.ls[12]\.")),
    ("convolutions", re.compile(r"blocks\.\d+\.residual\.")),
    ("decoder", re.compile(r"decoder\.")),
    ("norms", re.compile(r"((layers\.\d+\.)?blocks\.\d+\.norm[12]|norm)\.")),
    ("patch merging", re.compile(r"layers\.\d+\.downsample\.")),
    ("VGG stages", re.compile(r"(layer\d\.\d+\.\w+$|conv6\.|bn\.)")),
    ("refinement", re.compile(r"refiner\.")),
    ("stem", re.compile(r"(conv|bn)\d\.")),
    ("residual blocks", re.compile(r"layer(\d|_bottleneck)\.")),
)


@dataclass(frozen=True)
class ConversionReport:
    """Treatment of every entry of the source and of every tensor of the model.

    Args:
        source: name of the weights.
        mapped: source key -> name in the model (without "backbone."; q, k and v parts under their own names).
        ignored: source key -> reason why it is dropped.
        model_keys: names in the model.
        network: description of the network's sizes.
        new: name in the model -> description of its values, for tensors that are not in the source.
        metadata: metadata of the converted file.
        warnings: notes for the user, one line each.
    """

    source: str
    mapped: Mapping[str, str]
    ignored: Mapping[str, str]
    model_keys: list[str]
    network: str
    new: Mapping[str, str]
    metadata: Mapping[str, Any]
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Facts, counts by group, every ignored and every new key, warnings."""
        lines = [f"{self.source}: {len(self.mapped) + len(self.ignored)} entries", *self._facts(), ""]
        lines += self._counts()
        lines += _grouped("ignored:", self.ignored)
        lines += _grouped("new, not in the source:", self.new)
        lines += [""] * bool(self.warnings) + [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _facts(self) -> list[str]:
        m = self.metadata
        prefix = f", names after {m['source_prefix']!r}" if m["source_prefix"] else ""
        entry = {"entry": f"{m['source_entry']!r}, which is used"} if m["source_entry"] else {}
        facts = {
            **entry,
            "layout": m["source_layout"] + prefix,
            "architecture": f"{m['arch']}: {self.network}",
            "data set": f"{m['dataset']} ({m['dataset_from']}), mean {m['pixel_mean']}, std {m['pixel_std']}",
        }
        if "num_heads" in m:
            facts |= {
                "heads from": m["num_heads_from"],
                "LayerNorm eps": f"{m['layer_norm_eps']:g}",
                "rotary periods": m["periods"],
                "qkv bias mask": m["bias_mask"],
            }
        if "window_size" in m:
            size, blocks = m["window_size"], ", ".join(map(str, m["window_block_indexes"]))
            facts["windows"] = (
                f"{size} x {size} patches in blocks {blocks}; relative positions for {m['img_size']} pixels"
            )
        return [f"  {name:<16}{value}" for name, value in facts.items()]

    def _counts(self) -> list[str]:
        read = Counter(_group(key) for key in self.mapped.values())
        filled = Counter(_group(key) for key in self.model_keys if key not in self.new)
        new = Counter(_group(key) for key in self.model_keys if key in self.new)
        rows = [("", "read", "filled", "new")]
        rows += [(name, read[name], filled[name], new[name]) for name, _ in _GROUPS if read[name] or new[name]]
        rows.append(("total", read.total(), filled.total(), new.total()))
        return [f"  {name:<16}" + "".join(f"{count:>8}" for count in counts) for name, *counts in rows]


def key_pattern(key: str) -> str:
    """The key with its indexes replaced by *, so that keys that differ only by an index can be counted together."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def _group(key: str) -> str:
    return next(name for name, pattern in _GROUPS if pattern.match(key))


def _grouped(title: str, keys: Mapping[str, str]) -> list[str]:
    """List keys with their reasons. Keys that differ only by an index share a line."""
    if not keys:
        return []
    counts = Counter((key_pattern(key), reason) for key, reason in keys.items())
    return ["", f"  {title}", *(f"    {key} x{count}: {reason}" for (key, reason), count in counts.items())]
