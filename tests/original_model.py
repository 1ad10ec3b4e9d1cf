"""A model put together by the original's rules and the file it saves, for tests. None of the original's code."""

import argparse
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

OLD_SWIN = (
    ("attention.q_proj", "attention.self.query"),
    ("attention.k_proj", "attention.self.key"),
    ("attention.v_proj", "attention.self.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("attention.relative_position_bias.relative", "attention.self.relative"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)
"""Today's Swin names and those of transformers 4.30, which the original's files have."""

KINDS = {
    "shallow": {},
    "delta": {"vis_use_lora": True},
    "deep": {"freeze_vm": False},
    "llm_lora": {"llm_use_lora": True},
    "delta_over_deep": {"freeze_vm": False, "vis_use_lora": True},
}


class OriginalModel(nn.Module):
    """Modules by the original's names, put together by its rules; every trained tensor is random."""

    def __init__(self, flags: argparse.Namespace) -> None:
        super().__init__()
        self.flags = flags
        self.visual_encoder = AutoModel.from_pretrained(flags.vision_model)
        if flags.vis_use_lora:
            lora = LoraConfig(r=flags.vis_r, lora_alpha=flags.vis_alpha, target_modules=["q_proj", "v_proj"])
            self.visual_encoder = get_peft_model(self.visual_encoder, lora)
        elif flags.freeze_vm:
            self.visual_encoder.requires_grad_(False)
        self.llama_model = AutoModelForCausalLM.from_pretrained(flags.llama_model)
        self.embed_tokens = self.llama_model.get_input_embeddings()
        if flags.llm_use_lora:
            lora = LoraConfig(task_type=TaskType.CAUSAL_LM, r=flags.llm_r, lora_alpha=flags.llm_alpha)
            self.llama_model = get_peft_model(self.llama_model, lora)
        else:
            self.llama_model.requires_grad_(False)
        self.llama_proj = nn.Linear(16, self.llama_model.config.hidden_size)
        self.layer_norm = nn.LayerNorm(self.llama_model.config.hidden_size)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)

    def logits(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder features and the language model's logits on image tokens followed by ids."""
        features = self.visual_encoder(pixels).last_hidden_state
        tokens = self.layer_norm(self.llama_proj(features))
        embeds = torch.cat([tokens, self.embed_tokens(ids)], 1)
        return features, self.llama_model(inputs_embeds=embeds).logits

    def trained(self) -> dict[str, Tensor]:
        """What the original saves: parameters with a gradient, Swin's under their old names."""
        kept = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                for new, old in OLD_SWIN if name.startswith("visual_encoder") else ():
                    name = name.replace(new, old)
                kept[name] = parameter.detach()
        return kept


def original_flags(parts: tuple[str, str], **changes: object) -> argparse.Namespace:
    values = {
        "vision_model": parts[0],
        "llama_model": parts[1],
        "freeze_vm": True,
        "vis_use_lora": False,
        "vis_r": 4,
        "vis_alpha": 8,
        "llm_use_lora": False,
        "llm_r": 6,
        "llm_alpha": 3,
        "lora_dropout": 0.1,
        "global_only": False,
        "end_sym": "</s>",
        "dataset": "iu_xray",
        "annotation": "data/iu_xray/annotation.json",
        "max_length": 60,
        "no_repeat_ngram_size": 2,
        "weights": ["0", ".", "5"],
        "temperature": 0,
        "length_penalty": 2,
        "beam_size": 3,
        "min_new_tokens": 40,
        "max_new_tokens": 100,
        "devices": 2,
    }
    return argparse.Namespace(**{**values, **changes})


def save_original(path: Path, model: OriginalModel, tensors: dict[str, Tensor] | None = None) -> Path:
    content = {"model": tensors or model.trained(), "config": model.flags, "epoch": 2, "step": 345}
    torch.save(content, path)
    return path
