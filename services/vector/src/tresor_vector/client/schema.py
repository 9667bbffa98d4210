"""The schema and the indexes of a collection as plain data, and back."""

from __future__ import annotations

from typing import Any, Final

from tresor_vector.client.rows import SUPPORTED
from tresor_vector.errors import BackupError

_INDEX_STATE: Final = frozenset(
    {"index_name", "field_name", "index_type", "metric_type", "total_rows", "indexed_rows",
     "pending_index_rows", "state", "min_index_version", "max_index_version"}
)  # fmt: skip


def describe(client: Any, name: str) -> dict[str, Any]:  # noqa: ANN401
    """Return what a restore needs to make the collection again.

    Raises:
        BackupError: it has a kind of field that no backup can hold.
    """
    found = client.describe_collection(name)
    fields = [_field(field) for field in found["fields"]]
    for field in fields:
        if field["type"] not in SUPPORTED:
            raise BackupError(
                f"{name}.{field['name']} has type {field['type']}, which backups do not hold; "
                f"known are {', '.join(sorted(SUPPORTED))}"
            )
    return {
        "description": found.get("description", ""),
        "dynamic": bool(found.get("enable_dynamic_field")),
        "shards": int(found.get("num_shards") or 1),
        "consistency": int(found.get("consistency_level") or 0),
        "fields": fields,
        "functions": [_function(function) for function in found.get("functions") or []],
        "indexes": [_index(client.describe_index(name, i)) for i in client.list_indexes(name)],
    }


def _field(field: dict[str, Any]) -> dict[str, Any]:
    element = field.get("element_type")
    kept: dict[str, Any] = {
        "name": field["name"],
        "type": field["type"].name,
        "description": field.get("description") or "",
        "params": {key: _param(value) for key, value in (field.get("params") or {}).items()},
    }
    if element is not None and kept["type"] == "ARRAY":
        kept["element_type"] = getattr(element, "name", None) or _type(element).name
    for flag in ("is_primary", "auto_id", "is_partition_key", "is_clustering_key", "nullable"):
        if field.get(flag):
            kept[flag] = True
    if field.get("is_function_output"):
        kept["is_function_output"] = True
    return kept


def _param(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, str | int | float | bool | dict | list) else str(value)


def _type(number: Any) -> Any:  # noqa: ANN401
    from pymilvus import DataType  # noqa: PLC0415

    return DataType(number)


def _function(function: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": function["name"],
        "type": int(function["type"]),
        "inputs": list(function["input_field_names"]),
        "outputs": list(function["output_field_names"]),
        "params": {key: _param(value) for key, value in (function.get("params") or {}).items()},
    }


def _index(index: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": index["index_name"],
        "field": index["field_name"],
        "type": index.get("index_type", ""),
        "metric": index.get("metric_type", ""),
        "params": {key: _param(value) for key, value in index.items() if key not in _INDEX_STATE},
    }


def create(client: Any, name: str, kept: dict[str, Any]) -> None:  # noqa: ANN401
    """Make an empty collection. Ids stay those of the backup, so the server makes none itself."""
    from pymilvus import DataType, Function, FunctionType  # noqa: PLC0415

    schema = client.create_schema(
        auto_id=False, enable_dynamic_field=kept["dynamic"], description=kept["description"]
    )
    outputs = {output for function in kept["functions"] for output in function["outputs"]}
    for field in kept["fields"]:
        flags = {
            flag: field[flag]
            for flag in ("is_primary", "is_partition_key", "is_clustering_key", "nullable")
            if flag in field and field["name"] not in outputs
        }
        if "element_type" in field:
            flags["element_type"] = DataType[field["element_type"]]
        schema.add_field(
            field["name"], DataType[field["type"]], description=field["description"],
            **field["params"], **flags,
        )  # fmt: skip
    for function in kept["functions"]:
        schema.add_function(
            Function(
                name=function["name"], function_type=FunctionType(function["type"]),
                input_field_names=function["inputs"], output_field_names=function["outputs"],
                params=function["params"],
            )
        )  # fmt: skip
    client.create_collection(
        name, schema=schema, num_shards=kept["shards"], consistency_level=kept["consistency"]
    )


def create_indexes(client: Any, name: str, kept: dict[str, Any]) -> None:  # noqa: ANN401
    """Make the collection's indexes and load it, if it can be loaded at all."""
    wanted = client.prepare_index_params()
    for index in kept["indexes"]:
        more = {"metric_type": index["metric"]} if index["metric"] else {}
        wanted.add_index(
            field_name=index["field"], index_type=index["type"], index_name=index["name"],
            params=index["params"], **more,
        )  # fmt: skip
    if kept["indexes"]:
        client.create_index(name, wanted)
        client.load_collection(name)
