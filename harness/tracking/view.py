"""The saved view that makes the MLflow UI open on what an ablation asks: variants, not runs.

In: the metric and the columns of an experiment. Out: the experiment tag that MLflow's "Views"
menu reads, and the link that opens it. The table is grouped by variant; the charts are a bar of
the final metric and one mean line per variant of the validation curves (for a study: parallel
coordinates of what was searched, one line per trial). The format is MLflow's own and undocumented
(3.17): it is versioned by its key and covered by a browser test; without it the link opens the
plain page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

VIEW_KEY = "harness-v1-by-variant"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
SECTION = {"cell": "By variant", "trial": "By trial"}


def view_tag(
    metric: str, columns: Sequence[str], updated_ms: int, role: str = "cell", key: str = ""
) -> str:
    """The value of the tag `VIEW_TAG`.

    `columns` are names like `params.optim.lr`, `metrics.val/loss` and `tags.seed`. Cells are
    grouped by variant; trials (`role="trial"`) are listed one by one, the best first. `key` names
    the comparison or study that is shown: an average over several would mix data sets.
    """
    return json.dumps(
        {
            "name": SECTION[role],
            "createdAt": updated_ms,
            "updatedAt": updated_ms,
            "state": json.dumps(view_state(metric, columns, role, key), separators=(",", ":")),
        }
    )


def same_view(one: str | None, other: str) -> bool:
    """Whether two tag values describe the same state, whenever they were written."""
    try:
        return one is not None and json.loads(one)["state"] == json.loads(other)["state"]
    except (ValueError, KeyError, TypeError):
        return False


def view_link(base_url: str, experiment_id: str, saved_view: bool) -> str:
    """An experiment's page in MLflow's machine-learning mode (GenAI mode is its default)."""
    link = (
        f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    )
    return (
        f"{link}&viewStateShareKey={quote(VIEW_KEY)}&compareRunsMode=CHART" if saved_view else link
    )


def view_state(
    metric: str, columns: Sequence[str], role: str = "cell", key: str = ""
) -> dict[str, Any]:
    """The UI state: filter, columns, grouping and charts."""
    quantity = metric.rpartition("/")[2]
    curves = list(dict.fromkeys([f"val/{quantity}", "val/loss"]))
    first = ["params.variant", "tags.seed"] if role == "cell" else []
    named = [*first, *columns, *(f"metrics.{m}" for m in (metric, *curves))]
    parent = "tags.`harness.comparison`" if role == "cell" else "tags.`harness.study`"
    by_variant = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "variant"}],
    }
    return {
        "searchFilter": f'tags.`harness.role` = "{role}"'
        + (f' and {parent} = "{key}"' if key else ""),
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": quantity != "accuracy",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(dict.fromkeys(map(_column, named))),
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "SHOWALL",
        "groupBy": by_variant if role == "cell" else None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": role == "cell",
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "compareRunCharts": [
            _bar(metric) if role == "cell" else _parallel(metric, columns),
            *(_line(curve) for curve in curves),
        ],
        "compareRunSections": [
            {
                "uuid": "harness",
                "name": SECTION[role],
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _column(name: str) -> str:
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"


def _bar(metric: str) -> dict[str, Any]:
    return {
        "uuid": f"bar-{metric}",
        "type": "BAR",
        "runsCountToCompare": 100,
        "metricSectionId": "harness",
        "deleted": False,
        "isGenerated": False,
        "displayName": metric,
        "metricKey": metric,
    }


def _parallel(metric: str, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "uuid": f"parallel-{metric}",
        "type": "PARALLEL",
        "runsCountToCompare": 100,
        "metricSectionId": "harness",
        "deleted": False,
        "isGenerated": False,
        "showAllRuns": True,
        "selectedParams": [c.removeprefix("params.") for c in columns if c.startswith("params.")],
        "selectedMetrics": [metric],
    }


def _line(metric: str) -> dict[str, Any]:
    return {
        "uuid": f"line-{metric}",
        "type": "LINE",
        "metricSectionId": "harness",
        "deleted": False,
        "isGenerated": False,
        "displayName": metric,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "runsCountToCompare": 100,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
