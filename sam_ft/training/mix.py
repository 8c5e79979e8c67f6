"""WiSE-FT (Wortsman et al. 2022): weights between zero-shot and a trained epoch, scored at the end of a run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import Tensor

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models import Sam
from sam_ft.training.parameters import replaced, trained_parameters
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils import distributed


class Mix:
    """Mixes the trained parameters: zero_shot + a · (epoch - zero_shot), for each share a of an epoch.

    Make it before a training state is loaded: the weights of the model are then those of zero-shot, of which it keeps a
    copy on the CPU.

    shares: each in (0, 1); None for no mix
    """

    def __init__(self, model: Sam, shares: Sequence[float] | None) -> None:
        self.shares = [] if shares is None else sorted(set(shares))
        self._parameters = trained_parameters(model) if self.shares else {}
        # clone() also on a CPU, where .cpu() is the parameter's own storage
        self._zero_shot = {name: p.detach().cpu().clone() for name, p in self._parameters.items()}
        self._epoch: dict[str, Tensor] = {}

    def score(self, best_path: Path | None, validate: Callable[[str], Evaluation]) -> dict[float, Evaluation]:
        """Scores each share of the epoch of which a file has the weights; all ranks call this.

        best_path: None for the weights that the model has now
        → {share: scores}

        Raises:
            CheckpointError: the file cannot be read.
        """
        if best_path is None:
            self._epoch = {name: p.detach().cpu().clone() for name, p in self._parameters.items()}
        else:
            self._epoch = _read_on_all_ranks(best_path)
        # An update is B A, and B is zero in zero-shot, whatever its A: with that of the epoch the mix of B alone
        # is the mix of the merged weights. With both mixed, the update would shrink by more than the share.
        self._zero_shot |= {name: tensor for name, tensor in self._epoch.items() if name.endswith(".lora_a")}
        scored = {}
        for share in self.shares:
            with self.applied(share):
                scored[share] = validate(f"mix {share:g}")
        return scored

    def applied(self, share: float) -> AbstractContextManager:
        """Context in which the model has the mixed weights, after `score` has read those of the epoch.

        share: 1 for the epoch itself
        """
        # Exactly the epoch at 1: lerp counts from the nearer end.
        mixed = {name: start.lerp(self._epoch[name], share) for name, start in self._zero_shot.items()}
        return replaced(self._parameters, mixed)


def _read_on_all_ranks(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def read() -> None:  # only the main rank does
        found.update(read_tensors(path)[0])

    distributed.broadcast_from_main(read)
    return distributed.broadcast_tensors(found)
