"""WiSE-FT (Wortsman et al. 2022): weights between zero-shot and the best epoch, scored at the end of a run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import Tensor

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models import Sam
from sam_ft.models.heads import in_head
from sam_ft.training.checkpoint import read_on_all
from sam_ft.training.parameters import replaced, trained_parameters


class Mix:
    """Mixes the trained parameters: zero_shot + a · (best - zero_shot), for each share a of the best epoch.

    Make it before a training state is loaded: the weights of the model are then those of zero-shot, of which it keeps a
    copy on the CPU.

    shares: each in (0, 1); None for no mix
    """

    def __init__(self, model: Sam, shares: Sequence[float] | None) -> None:
        self.shares = [] if shares is None else sorted(set(shares))
        self._parameters = trained_parameters(model) if self.shares else {}
        # clone() also on a CPU, where .cpu() is the parameter's own storage
        self._zero_shot = {name: p.detach().cpu().clone() for name, p in self._parameters.items()}
        self._best: dict[str, Tensor] = {}

    def score(self, best_path: Path, validate: Callable[[str], Evaluation]) -> dict[float, Evaluation]:
        """Scores each share; all ranks call this.

        → {share: scores}; empty if there is nothing to mix: no shares, no epoch better than zero-shot, or weights in
        the file that are a mix already

        Raises:
            CheckpointError: the file of the best weights cannot be read.
        """
        if not self.shares or not self._read(best_path):
            return {}
        scored = {}
        for share in self.shares:
            with self.applied(share):
                scored[share] = validate(f"mix {share:g}")
        return scored

    def applied(self, share: float) -> AbstractContextManager:
        """Context in which the model has the mixed weights, after `score` has read those of the best epoch.

        share: 1 for the best epoch itself
        """
        # Exactly the best epoch at 1: lerp counts from the nearer end.
        mixed = {name: start.lerp(self._best[name], share) for name, start in self._zero_shot.items()}
        return replaced(self._parameters, mixed)

    def _read(self, best_path: Path) -> bool:
        """Reads the weights of the best epoch on all ranks; → whether they can be mixed."""
        tensors, metadata = read_on_all(best_path)
        mixable = bool(metadata.get("best_epoch")) and metadata.get("mix") is None
        self._best = tensors if mixable else {}
        # An update is B A, and B is zero in zero-shot, whatever its A: with that of the best epoch the mix of B alone
        # is the mix of the merged weights. With both mixed, the update would shrink by more than the share. A head has
        # no zero-shot weights: before training they are random.
        fixed = (name for name in self._best if name.endswith(".lora_a") or in_head(name))
        self._zero_shot |= {name: self._best[name] for name in fixed}
        return mixable
