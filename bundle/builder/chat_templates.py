"""Second wall for chat templates: Jinja's own parser, in the sandbox that engines render them in.

The gate on the bastion has no Jinja and reads tokens; here the tree is there. Nothing is rendered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bundle.builder.blobs import BlobStore
from bundle.builder.errors import PolicyError
from bundle.builder.lock import LockedFile

_HOLDERS = ("tokenizer_config.json", "chat_template.json", "processor_config.json")
_LOADS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class _Generation(Extension):
    """The tag ``{% generation %}``, which marks the model's own words and prints them."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what the tag holds."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check(part: str, files: Sequence[LockedFile], store: BlobStore) -> None:
    """Parse every template of a model.

    Raises:
        PolicyError: not a template, one that loads others, or one that reaches for private names.
    """
    environment = ImmutableSandboxedEnvironment(
        extensions=[_Generation, "jinja2.ext.loopcontrols"], autoescape=False
    )
    for where, text in _templates(files, store):
        try:
            tree = environment.parse(text)
        except jinja2.TemplateSyntaxError as error:
            raise PolicyError(f"{part}/{where}: no Jinja template: {error}") from error
        if list(tree.find_all(_LOADS)):
            raise PolicyError(f"{part}/{where}: the template loads other templates")
        names = [node.attr for node in tree.find_all(nodes.Getattr)]
        names += [node.name for node in tree.find_all(nodes.Name)]
        for name in names:
            if name.startswith("_"):
                raise PolicyError(f"{part}/{where}: the template reaches for {name!r}")


def _templates(files: Sequence[LockedFile], store: BlobStore) -> Iterator[tuple[str, str]]:
    for entry in files:
        if entry.file.endswith(".jinja"):
            yield entry.file, store.path(entry.sha256).read_text(encoding="utf-8")
        elif entry.file in _HOLDERS:
            value = json.loads(store.path(entry.sha256).read_bytes()).get("chat_template")
            rows = value if isinstance(value, list) else [value]
            for row in rows:
                text = row.get("template") if isinstance(row, dict) else row
                if isinstance(text, str):
                    yield f"{entry.file}#chat_template", text
