"""The scripts of docs/serving.md for schedulers: they say what they should, and their commands run."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import ROOT

import inference

PAGE = (ROOT / "docs" / "serving.md").read_text()


def block(language: str) -> str:
    """The page's only block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


JOB = yaml.safe_load(block("yaml"))
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def environment_of(index: int) -> dict[str, str]:
    """The variables that a pod gets."""
    fields = {
        "metadata.annotations['batch.kubernetes.io/job-completion-index']": str(index),
        "metadata.labels['batch.kubernetes.io/controller-uid']": "6d0c1c2e-5f5f-4a0e-a7f5-1e7d3c9b2a10",
    }
    return {
        variable["name"]: variable["value"]
        if "value" in variable
        else fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in CONTAINER["env"]
    }


def test_the_job_is_indexed_and_all_its_pods_run_at_once():
    assert (JOB["apiVersion"], JOB["kind"]) == ("batch/v1", "Job")
    spec = JOB["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(environment_of(0)["WORLD_SIZE"])
    assert spec["backoffLimit"] == 0  # one pod alone cannot come back
    assert POD["restartPolicy"] == "Never"
    assert all(isinstance(variable.get("value", ""), str) for variable in CONTAINER["env"])  # as Kubernetes requires
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    assert CONTAINER["resources"]["requests"]["cpu"] == environment_of(0)["OMP_NUM_THREADS"]


def test_the_command_of_the_job_is_that_of_the_image():
    assert 'ENTRYPOINT ["python"]' in (ROOT / "Containerfile").read_text()
    mounted = CONTAINER["volumeMounts"][0]["mountPath"]
    options = inference.parse_arguments(CONTAINER["args"][1:])
    assert all(path.startswith(f"{mounted}/") for path in (options.image, options.trimap, options.output))
    assert options.skip_existing


@pytest.mark.slow
def test_the_pods_of_the_job_share_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("photos", "trimaps"):
        (tmp_path / folder).mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(tmp_path / f"photos/{index}.png")
        Image.fromarray(np.full((40, 48), 128, np.uint8)).save(tmp_path / f"trimaps/{index}.png")
    words = [word.replace(CONTAINER["volumeMounts"][0]["mountPath"], str(tmp_path)) for word in CONTAINER["args"]]
    here = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # four processes on a few cores
    pods = [
        subprocess.Popen([sys.executable, *words], cwd=ROOT, env=os.environ | environment_of(index) | here, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for index in range(JOB["spec"]["completions"])
    ]  # fmt: skip
    ends = [pod.communicate(timeout=300) for pod in pods]
    assert [pod.returncode for pod in pods] == [0] * len(pods), ends
    assert [out for out, _ in ends[1:]] == [""] * (len(pods) - 1)
    assert ends[0][0] == f"{tmp_path / 'mattes'}: 6 written, 0 skipped, 0 failed, on cpu, by {len(pods)} processes\n"
    account = json.loads((tmp_path / "mattes" / "manifest.json").read_text())
    assert account["counts"] == {"written": 6}
    names = sorted(path.name for path in (tmp_path / "mattes").iterdir())
    assert names == [*(f"{index}.png" for index in range(6)), "manifest.json"]


def test_the_batch_script_is_a_shell_script_whose_torchrun_knows_its_options():
    script = block("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    directives = re.findall(r"^#SBATCH --([\w-]+)", script, re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "cpus-per-task", "requeue"} <= set(directives)
    from torch.distributed.run import get_args_parser

    command = script[script.index("torchrun") :].replace("\\\n", " ").split()
    options = [word for word in command[: command.index("inference.py")] if word.startswith("--")]
    known = get_args_parser()._option_string_actions
    assert [option for option in options if option not in known] == []
