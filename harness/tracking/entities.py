"""Plain values as MLflow's entities, and its limits on them.

In: dicts with any values. Out: tags, params, dataset inputs. MLflow cuts long values without a
word; here the cut is marked in the value. A value is written as `--set` takes it: words as they
are, the rest as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

from harness.tracking import DatasetInfo, as_text

TAG_LIMIT, PARAM_LIMIT = 8000, 6000


def run_params(values: Mapping[str, object]) -> list[Param]:
    """Settings as MLflow shows them in columns."""
    return [Param(key, _cut(as_text(value), PARAM_LIMIT)) for key, value in values.items()]


def run_tags(tags: Mapping[str, object]) -> list[RunTag]:
    """Tags; a value of None or an empty word is left out."""
    return [
        RunTag(key, _cut(as_text(value), TAG_LIMIT))
        for key, value in tags.items()
        if value not in (None, "")
    ]


def _cut(text: str, limit: int) -> str:
    mark = f" ... (cut: {len(text)} characters)"
    return text if len(text) <= limit else text[: limit - len(mark)] + mark


def dataset_input(info: DatasetInfo) -> DatasetInput:
    """The data set as MLflow's Dataset column shows it; its digest is the data's own."""
    dataset = Dataset(
        name=info.name,
        digest=info.sha256[:36],
        source_type="local",
        source=json.dumps({"uri": info.source or info.name}),
        profile=json.dumps({"task": info.task, "rows": dict(info.rows), "sha256": info.sha256}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "train and test")])
