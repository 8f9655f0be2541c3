"""The recipe ``prorec``, the whole way from events to a model."""

import json

from safetensors.numpy import load_file

from tests.tiny_run import invoke, tiny


def test_the_recipe_distils_the_vectors_that_its_codes_were_made_from(tmp_path):
    folder = tmp_path / "run"
    done = invoke("run", "prorec", "--run", folder, "--until", "train", "-q", *tiny())
    assert done.exit_code == 0, done.stderr
    # Two halves as wide as the cf vectors.
    assert load_file(folder / "index" / "fusion.safetensors")["vectors"].shape == (40, 16)
    log = json.loads((folder / "model" / "training.json").read_text())
    told = [entry for entry in log if "loss_distillation" in entry]
    assert told
    assert all(entry["loss_distillation"] > 0 for entry in told)
