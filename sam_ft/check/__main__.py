"""python -m sam_ft.check data=folder data.root=/path/to/cells"""

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text, as_values
from sam_ft.check.sample_sheet import draw_samples
from sam_ft.cli.config import build
from sam_ft.cli.evaluation_plan import make_output_folder
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.setting_checks import check_settings
from sam_ft.models.build import SPECS
from sam_ft.models.consumers import describe_readers
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import write_atomic


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="check")
def main(cfg: DictConfig) -> None:
    """Prints the report; exits with 3 if it has errors."""
    with exit_cleanly(cfg):
        check_settings(cfg, int | None, ("input_side",), least=1)
        check_settings(cfg, str, ("output",))
        check_settings(cfg, bool, ("debug",))
        prompter = build(cfg.train_prompt)
        result = check_dataset(build(cfg.data), cfg.input_side or model_side(cfg))
        output = Path(cfg.output).expanduser()
        make_output_folder(output)
        write_atomic(output / "report.json", json.dumps(as_values(result), indent=2) + "\n")
        drawn = draw_samples(output / "samples.png", result, prompter)
        print(as_text(result))
        if (model_type := str((cfg.get("model") or {}).get("model_type"))) in SPECS:
            print(f"\n{model_type}: {describe_readers(model_type, model_side(cfg))}")
        print(f"\nwritten to {output}: report.json{', samples.png (look at it)' if drawn else ''}")
        if result.count("error"):
            raise SystemExit(DataError.exit_code)


def model_side(cfg: DictConfig) -> int:
    """The input side of the model, 1024 without one."""
    model = cfg.get("model") or {}
    spec = SPECS.get(str(model.get("model_type")))
    return model.get("image_size") or (1024 if spec is None else spec.image_size)


if __name__ == "__main__":
    with exit_cleanly():
        main()
