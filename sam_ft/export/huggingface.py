"""Hugging Face: a folder that transformers' SamModel loads."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sam_ft.adapt.lora_merge import merged_state_dict
from sam_ft.export.model_card import write_card
from sam_ft.export.request import ExportRequest
from sam_ft.models import Sam
from sam_ft.models.build import SPECS
from sam_ft.models.heads import in_head
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path

# Patterns of official names, and their names in transformers, applied one after the other.
RENAMES = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"(vision_encoder\.layers\.\d+\.)norm", r"\1layer_norm"),
    (r"(mask_decoder\.transformer\.layers\.\d+\.)norm", r"\1layer_norm"),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.point_embeddings\.", ".point_embed."),
    # The prompt encoder's are tied to these.
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "shared_image_embedding.positional_embedding",
    ),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.0\.", r"\1.proj_in."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.1\.", r"\1.layers.0."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.2\.", r"\1.proj_out."),
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of values from 0 to 1


def export_huggingface(request: ExportRequest) -> list[Path]:
    """Writes model.safetensors, config.json and the processor's files for transformers 4 and 5, and the model card.

    Models at another input side than the official one are exported too.

    Raises:
        ConfigError: transformers has no such encoder.
    """
    model, folder = request.model, request.folder
    if SPECS[model.model_type].encoder != "vit":
        raise ConfigError(
            f"format=huggingface: transformers has no encoder of {model.model_type}, only those of vit_b, vit_l and "
            "vit_h; choose format=onnx"
        )
    weights = folder / "model.safetensors"
    state = renamed(merged_state_dict(model))
    with atomic_path(weights, size=sum(tensor.nbytes for tensor in state.values())) as temporary:
        save_file(state, temporary, {"format": "pt"})
    image_processor = processor_config(model)
    files = {
        "config.json": model_config(model),
        "preprocessor_config.json": image_processor,  # of transformers 4
        "processor_config.json": {"image_processor": image_processor, "processor_class": "SamProcessor"},
    }
    written = [request.write_text(name, json.dumps(content, indent=2) + "\n") for name, content in files.items()]
    return [weights, *written, write_card(request)]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under their names in transformers, without those of a head."""
    found = {}
    for name, tensor in state.items():
        if in_head(name):
            continue
        for pattern, new in RENAMES:
            name = re.sub(pattern, new, name)
        found[name] = tensor.detach().cpu().contiguous()
    return found


def model_config(model: Sam) -> dict[str, Any]:
    """SamConfig: the values that differ between models."""
    spec = SPECS[model.model_type]
    vision = {
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.num_heads,
        "global_attn_indexes": list(spec.global_attn_indexes),
        "mlp_dim": 4 * spec.embed_dim,
        "image_size": model.image_size,
        "num_pos_feats": 128,
        "output_channels": 256,
    }
    prompts = {"image_size": model.image_size, "image_embedding_size": model.embedding_shape[1]}
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "vision_config": {"model_type": "sam_vision_model", **vision},
        "prompt_encoder_config": {"model_type": "sam_prompt_encoder", **prompts},
        "mask_decoder_config": {"model_type": "sam_mask_decoder"},
    }


def processor_config(model: Sam) -> dict[str, Any]:
    """SamImageProcessor: resizes the longest side, normalizes and pads, as SamPredictor does."""
    side, mask_side = model.image_size, model.mask_side
    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": side},
        "mask_size": {"longest_edge": mask_side},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_pad": True,
        "pad_size": {"height": side, "width": side},
        "mask_pad_size": {"height": mask_side, "width": mask_side},
    }
