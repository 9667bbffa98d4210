"""Gate ``models``: files by allow-list, weights without code, configuration that asks for none.

Block lists of pickle scanners miss whole classes of gadgets, so nothing here looks for bad content:
a model may carry these files, in this form, and nothing else.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator

from ..bundle.manifest import FileEntry, ModelEntry, Part
from . import gguf, safetensors, templates
from .documents import load
from .verdict import NOTE, REFUSE, RefusalError, Verdict, refusal, verdict, words
from .view import BundleView

GATE = "models"
ALLOWED_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tekken.json",
    "params.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "hf_quant_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Normalize/config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "NOTICE.txt",
    "USE_POLICY.md",
    "README.md",
)
_GGUF = "*.gguf"
_MAX_JSON = 256 * 1024 * 1024
_MAX_CONFIG = 16 * 1024 * 1024
_MAX_DEPTH = 64
_CODE_KEYS = words(
    """
    auto_map auto_mapping trust_remote_code custom_pipelines custom_generate remote_code
    code_revision base_model_class parent_library
    """
)
_REMOTE_CLASS = re.compile(r"[\w.-]+/[\w.-]+--[\w.]+|[\w.-]+--\w+\.[\w.]+")
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "tekken.json")
_MODULES_PREFIX = "sentence_transformers."
_TEMPLATE_FILES = re.compile(r"(additional_chat_templates/.*|chat_template)\.jinja")
_REMOVE = "Remove it; a model that needs code comes as a wheel, reviewed and locked like all others"


def is_allowed_file(path: str, formats: frozenset[str] = frozenset({"safetensors"})) -> bool:
    """Tell whether a model may carry a file at this path."""
    rules = (*ALLOWED_FILES, _GGUF) if "gguf" in formats else ALLOWED_FILES
    return any(
        path.count("/") == rule.count("/") and fnmatch.fnmatchcase(path, rule) for rule in rules
    )


def gate(view: BundleView, part: Part) -> Iterator[Verdict]:
    """Judge one model or adapter."""
    name = part.name.removeprefix("model-")
    model = next((item for item in view.manifest.models if item.name == name), None)
    if model is None:
        yield verdict("models.entry", REFUSE, part.name, "not in the manifest's models", _REMOVE)
        return
    tensors: dict[str, tuple[str, ...]] = {}
    found: dict[str, str] = {}
    for entry in part.files:
        where = f"{part.name}/{entry.path}"
        try:
            yield from _file(view, entry, where, tensors, found)
        except RefusalError as error:
            yield refusal(error)
    if not tensors:
        yield verdict("models.weights", REFUSE, part.name, "no file with weights", _REMOVE)
    for entry in part.files:
        if entry.path.endswith(".index.json"):
            try:
                _index(view, entry, f"{part.name}/{entry.path}", tensors)
            except RefusalError as error:
                yield refusal(error)
    yield from _pinned(view, model, part, found)


def _file(
    view: BundleView,
    entry: FileEntry,
    where: str,
    tensors: dict[str, tuple[str, ...]],
    found: dict[str, str],
) -> Iterator[Verdict]:
    if not is_allowed_file(entry.path, view.rules.model_formats):
        raise RefusalError("models.file", where, "no file of this name belongs in a model", _REMOVE)
    if entry.path.endswith(".safetensors"):
        with view.open(entry) as stream:
            tensors[entry.path] = safetensors.check(stream, entry.size, where)
    elif entry.path.endswith(".gguf"):
        with view.open(entry) as stream:
            texts = gguf.check(stream, entry.size, where)
        tensors[entry.path] = ()
        yield verdict("models.gguf", NOTE, where, "GGUF, allowed by this site's rules")
        for index, text in enumerate(texts):
            _template(text, f"{where}#{index}", found)
    elif entry.path.endswith(".json"):
        limit = _MAX_JSON if entry.path in ("tokenizer.json", "tekken.json") else _MAX_CONFIG
        value = load(
            view.read(entry, limit, "models.json"), limit=limit, rule="models", thing=where
        )
        check_keys(value, where, vocabulary=entry.path in VOCABULARIES)
        _special(entry.path, value, where, found)
    elif _TEMPLATE_FILES.fullmatch(entry.path):
        _template(_text(view, entry, where), where, found)
    elif entry.path.endswith((".txt", ".md")) or "." not in entry.path:
        _text(view, entry, where)


def _text(view: BundleView, entry: FileEntry, where: str) -> str:
    try:
        return view.read(entry, _MAX_CONFIG, "models.text").decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusalError("models.text", where, "not UTF-8", _REMOVE) from error


def check_keys(value: object, where: str, *, vocabulary: bool = False) -> None:
    """Refuse keys and values that make a loader import or run code, at any depth.

    Args:
        value: the parsed file.
        where: named in refusals.
        vocabulary: a table from words to numbers; any word may be a key there.

    Raises:
        RefusalError: rule ``models.code``.
    """
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise RefusalError("models.code", where, f"nested deeper than {_MAX_DEPTH}", _REMOVE)
        if isinstance(item, dict):
            for key, child in item.items():
                # A key that is null or false asks for nothing.
                harmless = child is None or child is False
                harmless |= vocabulary and isinstance(child, int)
                if key.casefold().strip() in _CODE_KEYS and not harmless:
                    raise RefusalError(
                        "models.code", where, f"key {key!r} makes a loader run code", _REMOVE
                    )
                stack.append((child, depth + 1))
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        elif vocabulary or not isinstance(item, str) or len(item) > 300:
            continue
        elif _REMOTE_CLASS.fullmatch(item):
            raise RefusalError(
                "models.code", where, f"value {item!r} names a class of a repository", _REMOVE
            )


def _special(path: str, value: object, where: str, found: dict[str, str]) -> None:
    if path == "modules.json":
        for module in value if isinstance(value, list) else [value]:
            kind = module.get("type") if isinstance(module, dict) else None
            if not isinstance(kind, str) or not kind.startswith(_MODULES_PREFIX):
                raise RefusalError(
                    "models.code", where, f"module {kind!r} would be imported", _REMOVE
                )
    if path not in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        return
    template = value.get("chat_template") if isinstance(value, dict) else None
    if isinstance(template, str):
        _template(template, f"{where}#chat_template", found)
    elif isinstance(template, (list, dict)):
        pairs = template.items() if isinstance(template, dict) else enumerate(template)
        for key, item in pairs:
            text = item.get("template") if isinstance(item, dict) else item
            if not isinstance(text, str):
                raise RefusalError("models.template", where, f"{item!r} is no template", _REMOVE)
            _template(text, f"{where}#chat_template.{key}", found)
    elif template is not None:
        raise RefusalError("models.template", where, f"{template!r} is no template", _REMOVE)


def _template(text: str, where: str, found: dict[str, str]) -> None:
    templates.check(text, where)
    found[where] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _pinned(
    view: BundleView, model: ModelEntry, part: Part, found: dict[str, str]
) -> Iterator[Verdict]:
    """Every template is one that the manifest or a reviewed allowance names by digest."""
    pins = {model.template_sha256, *view.declared.allowed("models.template", model.name)} - {""}
    for where, digest in sorted(found.items()):
        if digest not in pins:
            yield verdict(
                "models.template",
                REFUSE,
                where,
                f"sha256 {digest} is not pinned",
                "Have the template reviewed; the builder pins it in the manifest, further ones "
                f"by rule models.template, package {model.name}",
            )
        else:
            yield verdict("models.template", NOTE, where, f"sha256 {digest}")
    if model.template_sha256 and model.template_sha256 not in found.values():
        yield verdict(
            "models.template",
            REFUSE,
            part.name,
            f"the pinned template {model.template_sha256} is not there",
            "Build the bundle again",
        )


def _index(
    view: BundleView, entry: FileEntry, where: str, tensors: dict[str, tuple[str, ...]]
) -> None:
    """Every tensor of the index lies in the file it names; every file of weights is named."""
    raw = view.read(entry, _MAX_JSON, "models.index")
    value = load(raw, limit=_MAX_JSON, rule="models", thing=where)
    table = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(table, dict):
        raise RefusalError("models.index", where, "no weight_map", _REMOVE)
    held = {name: set(names) for name, names in tensors.items()}
    folder = entry.path.rpartition("/")[0]
    for tensor, file in table.items():
        path = f"{folder}/{file}" if folder else file
        if not isinstance(path, str) or tensor not in held.get(path, ()):
            raise RefusalError(
                "models.index", where, f"{tensor[:80]} is not in {str(file)[:80]!r}", _REMOVE
            )
    listed = {f"{folder}/{file}" if folder else file for file in table.values()}
    prefix = entry.path.removesuffix(".safetensors.index.json")
    extra = sorted(name for name in held if name not in listed and name.startswith(f"{prefix}-"))
    if extra:
        raise RefusalError("models.index", where, f"{extra[0]} is in no index", _REMOVE)


def describe(config: bytes) -> tuple[str, str]:
    """Return (architecture, model type) from ``config.json`` for the bill of materials."""
    try:
        value = json.loads(config)
        names = value.get("architectures") or [""]
        return str(names[0]), str(value.get("model_type", ""))
    except (ValueError, AttributeError, IndexError, TypeError):
        return "", ""
