"""YAML as the gateway reads it: plain values, and nothing said twice."""

from __future__ import annotations

from typing import Any

import yaml

from tresor_gateway.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, whose first value the parser would drop,
    and halves of characters, which nothing can write down again."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Called for every plain value."""
        value = super().construct_scalar(node)
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise yaml.constructor.ConstructorError(
                None, None, "half a character (a surrogate)", node.start_mark
            )
        return str(value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Called for every mapping; merged ones (``<<``) may still be overridden."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, source: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """The document in ``text``; ``source`` names it in messages.

    Raises:
        ConfigError: it is not YAML, nested too deeply, or says something twice.
    """
    try:
        # A SafeLoader by another name: only plain values come out of it.
        return yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: is nested too deeply; is it the right file?") from error
    except Exception as error:
        # Its constructors let values through that their types refuse (dates, numbers).
        raise ConfigError(f"{source}: holds a value that cannot be read: {error}") from error
