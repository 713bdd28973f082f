"""`FedXgbHistogram(params, roster, form).start(grid, num_rounds=…)`, in the place of Flower's FedXgbBagging."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from flwr.serverapp.strategy.strategy_utils import sample_nodes

from tacit.federated.errors import FederatedError
from tacit.federated.identity import Roster
from tacit.federated.masks.form import PairwiseMasks
from tacit.federated.server import RoundReport, SecureGrid
from tacit.federated.trees import bins, splits
from tacit.federated.trees.answers import ACTION, CONFIG, LARGEST_ANSWER, MOST_COLUMNS
from tacit.federated.trees.forest import Forest
from tacit.federated.trees.settings import Boosting
from tacit.federated.vectors import Floats

__all__ = ["FedXgbHistogram"]

log = logging.getLogger("flwr.tacit")

HEADROOM = 4.0
"""How much larger gradients of squares may become than they were before the first tree. They get smaller."""


@dataclass
class _Course:
    """What all rounds have in common: the bins, what margins begin with, and by how much sums are scaled."""

    cuts: list[Any]
    base_score: float
    base: float
    columns: int
    counted: int
    scale: int
    forest: Forest


class FedXgbHistogram:
    """XGBoost's trees, from gradients that are summed over all sites under masks; no site's tree or sum is seen.

    `params` are XGBoost's. The result's array "0" is a model as FedXgbBagging's is: XGBoost loads it. A round grows
    one tree, or `num_parallel_tree`, for each class. Clients answer by `answer_histograms`.

    Cost: `max_depth` sessions a round, of two messages a client; of each node 16 bytes for each bin and feature.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        roster: Roster,
        form: PairwiseMasks | None = None,
        *,
        min_available_nodes: int = 2,
    ) -> None:
        self.settings = Boosting.of(params)
        self.roster, self.form = roster, form or PairwiseMasks()
        if not isinstance(self.form, PairwiseMasks):
            raise FederatedError(
                "trees are grown from sums, as the first form gives them: PairwiseMasks(Settings(...))"
            )
        if self.form.privacy is not None:
            raise FederatedError("histograms have no noise: differential privacy is not for trees from sums")
        self.min_available_nodes = max(min_available_nodes, self.form.fewest(len(roster)))
        self.report: list[RoundReport] = []

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        fraction_evaluate: float = 1.0,
    ) -> Result:
        """Grow trees for so many rounds, have clients evaluate the model after each, and return the last one.

        All sums are over the sites of the first one: what sums with a site and without it tell together is that site's
        own. A round that lacks one is not unmasked, and leaves the model as it was. Raises `FederatedError` if every
        round failed.
        """
        if initial_arrays is not None and any(array.numpy().size for array in initial_arrays.values()):
            raise FederatedError("trees from sums begin with no model: leave initial_arrays out, or empty")
        if fraction_evaluate not in (0.0, 1.0):
            raise FederatedError("all clients evaluate, or none: fraction_evaluate is 1 or 0")
        secure = SecureGrid(grid, self.roster, self.form)
        self.report = secure.report
        sample_nodes(grid, self.min_available_nodes, 0)
        course, result, failed = self._begin(secure, timeout), Result(), []
        for number in range(1, num_rounds + 1):
            try:
                course.forest = course.forest.with_(self._round(secure, course, train_config, timeout))
            except FederatedError as error:
                log.error("round %s failed, the last good model is kept: %s", number, error)
                failed.append(error)
                continue
            model = course.forest.model(self.settings, course.base_score, course.columns)
            result.arrays = ArrayRecord({"0": Array(np.frombuffer(model, np.uint8))})
            if fraction_evaluate:
                self._evaluate(secure, result, number, evaluate_config, timeout)
            told = evaluate_fn(number, result.arrays) if evaluate_fn else None
            if told is not None:
                result.evaluate_metrics_serverapp[number] = told
        if num_rounds and len(failed) == num_rounds:
            raise FederatedError(f"no round could be aggregated; the last one said: {failed[-1]}")
        return result

    def _begin(self, grid: SecureGrid, timeout: float) -> _Course:
        """Ask how many rows and columns there are, and agree on bins."""
        settings = self.settings
        total = self._ask(grid, "begin", timeout, {}, {}).content.metric_records["metrics"]
        grid.insist()
        sites, columns, squared = (float(x) for x in total["columns"])  # type: ignore[union-attr]
        if round(sites) != grid.report[-1].survivors:
            raise FederatedError("sites say of themselves to be more than one, or none: a client lies")
        if abs(squared / sites - (columns / sites) ** 2) > 1e-6:
            raise FederatedError("sites have rows of different columns: all need the same, in the same order")
        features = round(columns / sites)
        counted, weight = float(total["rows"]), float(total["weight"])  # type: ignore[arg-type]
        if counted < 1 or weight <= 0 or not features:
            raise FederatedError("no site has any rows")
        if not 1 <= features <= MOST_COLUMNS:
            raise FederatedError(f"trees from sums are for 1 to {MOST_COLUMNS} columns, and sites say {features}")
        base_score, base, largest = self._first(total, weight)
        scale = self._scale(largest)
        cuts = self._bins(grid, features, counted, timeout)
        return _Course(cuts, base_score, base, features, round(counted), scale, Forest.empty(0, settings.max_depth))

    def _first(self, total: MetricRecord, weight: float) -> tuple[float, float, float]:
        """Return base_score, the margin that it stands for, and a bound of sums of derivatives."""
        labels, squares, ones = (float(total[name]) for name in ("labels", "squares", "ones"))  # type: ignore[arg-type]
        settings, given = self.settings, self.settings.base_score
        if not settings.logistic:
            mean = given if given is not None else 0.5 if settings.num_class else labels / weight
            if settings.num_class:
                return mean, mean, weight
            # sum w |g| <= sqrt(W sum w (y - mean)^2), of which the digits may be lost that all squares have in common
            around = max(squares - 2 * mean * labels + mean * mean * weight, 0.0) + 2.0**-48 * squares
            return mean, mean, max(weight, HEADROOM * math.sqrt(weight * around))
        more = (settings.scale_pos_weight - 1) * ones
        if weight + more <= 0:
            raise FederatedError("sites say that more rows are of class 1 than there are: a client lies")
        mean = (labels + more) / (weight + more) if given is None else given
        if not 0 < mean < 1:
            raise FederatedError("all labels of all sites are alike: there is nothing to learn, or give base_score")
        margin = math.log(mean / (1 - mean))
        if given is None and more:  # XGBoost takes one step of Newton's from 0 then
            margin = 4 * (mean - 0.5)
            mean = 1 / (1 + math.exp(-margin))
        return mean, margin, weight + max(more, 0.0)

    def _scale(self, largest: float) -> int:
        """Return k such that sums up to the largest one, divided by 2^k, are within the form's limit."""
        return math.ceil(math.log2(largest / self.form.settings.limit))

    def _bins(self, grid: SecureGrid, features: int, rows: float, timeout: float) -> list[Any]:
        scale = self._scale(rows)

        def ask(edges: list[bins.Keys]) -> list[Floats]:
            config = {"sizes": [len(each) for each in edges], "scale": scale}
            try:
                answer = self._ask(grid, "bins", timeout, config, {"edges": np.concatenate(edges)})
            except FederatedError as error:
                log.error("counts for bins are asked for once more: %s", error)
                answer = self._ask(grid, "bins", timeout, config, {"edges": np.concatenate(edges)})
            sums = self._sums(answer, scale)
            ends = np.cumsum([len(each) + 1 for each in edges])
            return [np.maximum(np.rint(part), 0) for part in np.split(sums, ends[:-1])]

        return bins.agree(ask, features, self.settings.max_bin, LARGEST_ANSWER)

    def _round(self, grid: SecureGrid, course: _Course, train_config: ConfigRecord | None, timeout: float) -> Forest:
        """Grow the trees of one round, a level at a time."""
        settings, done = self.settings, len(course.forest)
        draw = np.random.default_rng([settings.seed % 2**64, done])
        some = max(round(settings.colsample_bytree * course.columns), 1)
        columns = [sorted(draw.permutation(course.columns)[:some].tolist()) for _ in range(settings.group)]
        widths = [len(cuts) + 1 for cuts in course.cuts]
        growing, opened = Forest.empty(settings.group, settings.max_depth), [(t, 0) for t in range(settings.group)]
        for depth in range(settings.max_depth):
            forest = course.forest.with_(growing)
            arrays = dict(zip(("features", "splits", "left", "values"), forest.arrays(), strict=False))
            arrays |= {"cuts": np.concatenate(course.cuts).astype(np.float32), "open": np.array(opened, np.int64)}
            config = {
                **(train_config or {}), "sizes": [len(cuts) for cuts in course.cuts], "scale": course.scale,
                "group": settings.group, "parallel": settings.num_parallel_tree, "done": done, "depth": depth,
                "base": course.base, "positive": settings.scale_pos_weight, "subsample": settings.subsample,
            }  # fmt: skip
            sums = self._sums(self._ask(grid, "grow", timeout, config, arrays), course.scale)
            opened = [
                child
                for (tree, node), own in zip(opened, sums, strict=True)
                for child in self._split(growing, tree, node, own, widths, columns[tree], course.cuts)
            ]
            if not opened:
                break
        return growing

    def _split(
        self, forest: Forest, tree: int, node: int, sums: Floats, widths: list[int], columns: list[int], cuts: list[Any]
    ) -> list[tuple[int, int]]:
        """Split a node as gains most, and return those of its children that may be split, too."""
        whole = sums[: widths[0] + 1].sum(axis=0)
        if node == 0:
            forest.values[tree, 0], forest.weights[tree, 0] = splits.leaf(whole, self.settings), whole[1]
        split = splits.best(sums, widths, columns, self.settings)
        if split is None:
            return []
        own = cuts[split.feature]
        forest.features[tree, node] = split.feature
        forest.splits[tree, node] = own[split.cut] if split.cut < len(own) else np.finfo(np.float32).max
        forest.left[tree, node], forest.gains[tree, node] = split.missing_left, split.gain
        for child, of_child in ((2 * node + 1, split.left), (2 * node + 2, split.right)):
            forest.values[tree, child] = splits.leaf(of_child, self.settings)
            forest.weights[tree, child] = of_child[1]
        both = ((2 * node + 1, split.left), (2 * node + 2, split.right))
        return [(tree, child) for child, (_, h) in both if h >= 2 * self.settings.min_child_weight]

    def _ask(
        self, grid: SecureGrid, stage: str, timeout: float, config: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> Message:
        """Ask all nodes for their sums, and return the answer of all together."""
        told = {**config, "stage": stage, "objective": self.settings.objective, "classes": self.settings.num_class}
        content = RecordDict({CONFIG: ConfigRecord(told)})
        if arrays:
            content["arrays"] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        asked = [Message(content, node, f"query.{ACTION}") for node in sorted(grid.get_node_ids())]
        if not asked:
            raise FederatedError("no node is connected that could be asked")
        (answer,) = grid.send_and_receive(asked, timeout=timeout)
        return answer

    @staticmethod
    def _sums(answer: Message, scale: int) -> Floats:
        sums: Floats = np.ldexp(answer.content.array_records["arrays"]["sums"].numpy(), scale)
        return sums

    def _evaluate(
        self, grid: SecureGrid, result: Result, number: int, config: ConfigRecord | None, timeout: float
    ) -> None:
        """Have all clients evaluate the model; the average of their metrics goes into the result."""
        told = ConfigRecord({**(config or {}), "server-round": number})
        content = RecordDict({"arrays": result.arrays, CONFIG: told})
        asked = [Message(content, node, "evaluate") for node in sorted(grid.get_node_ids())]
        for answer in grid.send_and_receive(asked, timeout=timeout):
            result.evaluate_metrics_clientapp[number] = next(iter(answer.content.metric_records.values()))
