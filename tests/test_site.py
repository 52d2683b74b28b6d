"""Can a site use what is in assignments/cluster/ as it is? What needs a Slurm is in tests/slurm/test_site.py."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from ondemand import APP, FORM, SITE, rendered
from traitlets.config.loader import Config, JSONFileConfigLoader, PyFileConfigLoader

from autograder import course

HUB = SITE / "jupyterhub"


def loaded(path: Path) -> Config:
    loader = JSONFileConfigLoader if path.suffix == ".json" else PyFileConfigLoader
    return loader(str(path)).load_config()  # as the programs do it, from wherever they were started


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("LAB_INSTRUCTORS", "teacher,tutor")
    return loaded(HUB / "jupyterhub_config.py")


class Someone:
    """A spawner as the hook sees it."""

    def __init__(self, name: str) -> None:
        self.user = types.SimpleNamespace(name=name)
        self.environment: dict[str, str] = {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "home"
    found.mkdir()
    monkeypatch.setattr("pwd.getpwnam", lambda name: types.SimpleNamespace(pw_dir=str(found)))
    return found


@pytest.mark.parametrize(("mode", "closed"), [(0o755, 0o700), (0o711, 0o700), (0o700, 0o700), (0o2750, 0o2700)])
def test_a_home_is_closed_before_its_users_server_starts(hub, home, mode: int, closed: int) -> None:
    home.chmod(mode)
    hub.Spawner.pre_spawn_hook(Someone("ada"))
    assert stat.S_IMODE(home.stat().st_mode) == closed


@pytest.mark.parametrize(("name", "role"), [("ada", "student"), ("tutor", "instructor"), ("teache", "student")])
def test_settings_come_by_the_users_role(hub, home, name: str, role: str) -> None:
    spawner = Someone(name)
    hub.Spawner.pre_spawn_hook(spawner)
    first, both = spawner.environment["JUPYTER_CONFIG_PATH"].split(":")
    assert (Path(first), Path(both)) == (HUB / role, HUB / "everybody")
    assert Path(first).is_dir()
    assert (Path(both) / "nbgrader_config.py").is_file()


def test_no_page_may_stand_in_another_users_page(hub) -> None:
    """JupyterHub's own frame-ancestors 'none' stays; formgrader has a tab of the browser instead (nbgrader#1870)."""
    said = (HUB / "jupyterhub_config.py").read_text()
    assert "tornado_settings" not in said
    assert "Content-Security-Policy" not in said
    assert hub.Authenticator.admin_users == set()


def pages(role: str) -> dict[str, bool]:
    found: dict[str, bool] = json.loads((HUB / role / "labconfig" / "page_config.json").read_text())[
        "disabledExtensions"
    ]
    return found


def test_formgraders_tab_is_hidden_and_its_server_from_students_alone() -> None:
    for role in ("student", "instructor"):
        assert pages(role)["@jupyter/nbgrader:formgrader"] is True
    student = loaded(HUB / "student" / "jupyter_server_config.json")
    assert student.ServerApp.jpserver_extensions["nbgrader.server_extensions.formgrader"] is False
    assert not (HUB / "instructor" / "jupyter_server_config.json").exists()
    # what students need stays
    assert not {"@jupyter/nbgrader:assignment-list", "@jupyter/nbgrader:validate-assignment"} & set(pages("student"))


def test_what_is_switched_off_is_what_nbgrader_calls_so() -> None:
    files = importlib.metadata.files("nbgrader") or []
    scripts = [Path(str(f.locate())) for f in files if "labextensions/@jupyter/nbgrader/static" in str(f)]
    known = "".join(path.read_text(errors="replace") for path in scripts if path.suffix == ".js")
    for name in {*pages("student"), *pages("instructor")}:
        assert f'"{name}"' in known, name
    for module in loaded(HUB / "student" / "jupyter_server_config.json").ServerApp.jpserver_extensions:
        assert any(str(f) == f"{module.replace('.', '/')}/__init__.py" for f in files)


def test_a_students_nbgrader_knows_the_exchange_and_an_instructors_the_course(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NBGRADER_EXCHANGE_ROOT", "/srv/x")
    monkeypatch.setenv("LAB_COURSE", str(tmp_path / "course"))
    student = loaded(HUB / "everybody" / "nbgrader_config.py")
    assert (student.CourseDirectory.course_id, student.Exchange.root) == ("gradient-lab", "/srv/x")
    assert "root" not in student.CourseDirectory
    (tmp_path / "course").mkdir()
    shutil.copy(course.assignments_home() / "nbgrader_config.py", tmp_path / "course")
    instructor = loaded(HUB / "everybody" / "nbgrader_config.py")
    assert instructor.CourseDirectory.root == str(tmp_path / "course")
    assert "autograder.preprocessors.GradeFromEvidence" in instructor.Autograde.autograde_preprocessors
    assert instructor.Exchange.root == "/srv/x"
    # both have the course by one name: nbgrader's exchange keeps courses apart by it
    assert instructor.CourseDirectory.course_id == student.CourseDirectory.course_id


def test_with_slurm_the_hub_is_the_same_and_a_server_is_a_job(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "batchspawner", types.ModuleType("batchspawner"))
    found, plain = loaded(HUB / "slurm_config.py"), loaded(HUB / "jupyterhub_config.py")
    assert found.JupyterHub.spawner_class == "batchspawner.SlurmSpawner"
    assert found.Spawner.pre_spawn_hook.__name__ == plain.Spawner.pre_spawn_hook.__name__
    assert found.Spawner.args == plain.Spawner.args
    kept = set(found.SlurmSpawner.req_keepvars_extra.split(","))
    assert {"JUPYTER_CONFIG_PATH", *plain.Spawner.environment} == kept
    # beside what JupyterHub hands on anyway: without it sbatch looks in /etc/slurm alone
    assert found.Spawner.env_keep.get_value(["PATH"]) == ["PATH", "SLURM_CONF"]


# Open OnDemand


def test_the_app_has_the_files_of_an_app_and_its_form_fits() -> None:
    names = {str(path.relative_to(APP)) for path in APP.rglob("*") if path.is_file()}
    template = {"template/before.sh.erb", "template/script.sh.erb", "template/after.sh.erb"}
    assert names == {"manifest.yml", "form.yml", "submit.yml.erb", "view.html.erb", *template}
    manifest, form = (yaml.safe_load((APP / name).read_text()) for name in ("manifest.yml", "form.yml"))
    assert manifest["role"] == "batch_connect"
    assert set(form["form"]) == set(form["attributes"]) == set(FORM)


@pytest.mark.parametrize(
    ("values", "native"),
    [
        ({}, ["--cpus-per-task=2", "--mem=6G", "--gres=gpu:t4:1"]),
        ({"gpus": "0"}, ["--cpus-per-task=2", "--mem=6G"]),
        ({"gpus": "", "cores": ""}, ["--cpus-per-task=1", "--mem=4G"]),
        ({"gpus": '1"; rm -rf /', "cores": "-3"}, ["--cpus-per-task=1", "--mem=4G", "--gres=gpu:t4:1"]),
    ],
)
def test_what_a_session_asks_slurm_for(values: dict, native: list[str]) -> None:
    said = yaml.safe_load(rendered("submit.yml.erb", **values))
    assert said["script"]["native"] == native
    assert said["batch_connect"] == {"template": "basic", "conn_params": ["base_path"], "password_size": 48}


@pytest.mark.parametrize("folder", ["", "lab", "a folder's", "$(touch pwned); `touch pwned`", "nowhere"])
def test_a_session_starts_in_its_folder_and_says_its_secret_to_nobody(tmp_path, folder: str) -> None:
    """script.sh with a program of ours in place of the lab's."""
    (tmp_path / "home" / "lab").mkdir(parents=True)
    (tmp_path / "home" / "a folder's").mkdir()
    (tmp_path / "lab.sh").write_text('pwd; echo "$@"; env | grep -E "^(JUPYTER_TOKEN|SLURM_)"')
    script = rendered("template/script.sh.erb", folder=folder)
    around = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "LAB": str(tmp_path / "lab.sh"), "port": "4321",
        "password": "secret", "base_path": "/node/n1/4321/", "SLURM_MEM_PER_NODE": "100", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    done = subprocess.run(["bash"], input=script, env=around, cwd=tmp_path, capture_output=True, text=True, check=True)
    place, arguments, *environment = done.stdout.splitlines()
    there = folder if folder in ("lab", "a folder's") else ""
    assert place == str(tmp_path / "home" / there).rstrip("/")
    assert "--ServerApp.base_url=/node/n1/4321/" in arguments
    assert "secret" not in arguments
    assert sorted(environment) == ["JUPYTER_TOKEN=secret", "SLURM_JOB_ID=7"]
    assert not list(tmp_path.rglob("pwned"))


def test_the_link_holds_the_token_escaped() -> None:
    page = rendered("view.html.erb", host="n1", port=4321, password="a+b/c&d", base_path='/node/"n1"/4321/')
    assert 'href="/node/&quot;n1&quot;/4321/lab?token=a%2Bb%2Fc%26d"' in page


# batch files and the image


@pytest.mark.parametrize("name", ["lab.sh", "train.sbatch", "grade.sbatch"])
def test_a_shell_reads_it(name: str) -> None:
    done = subprocess.run(["bash", "-n", SITE / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("image", ["", "/data/the lab.sif"])
def test_the_lab_is_a_container_or_an_environment(tmp_path: Path, image: str) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("apptainer", "labkit"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/bash\nfor one in {name} "$@"; do echo "$one"; done\n')
        (tmp_path / "bin" / name).chmod(0o755)
    around = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "LAB_IMAGE": image, "LAB_ENVIRONMENT": str(tmp_path)}
    said = ["bash", SITE / "lab.sh", "labkit", "run", "a b"]
    done = subprocess.run(said, env=around, capture_output=True, text=True, check=True)
    inside = ["apptainer", "exec", "--nv", "--bind", "/data:/data", image] if image else []
    assert done.stdout.splitlines() == [*inside, "labkit", "run", "a b"]


def test_the_image_is_made_of_what_the_project_has() -> None:
    text = (SITE / "gradient-lab.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {"files", "post", "environment", "runscript", "test", "labels", "help"}
    assert text.startswith("Bootstrap: docker\nFrom: python:3.")
    for name in ("post", "environment", "runscript", "test"):
        done = subprocess.run(["sh", "-n"], input=sections[name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name
    assert (SITE.parents[1] / "constraints.txt").is_file()
    # its Python is one that the project runs on
    version = tuple(map(int, re.findall(r"python:(\d+)\.(\d+)", text)[0]))
    assert version >= (3, 11)


def test_the_list_of_assignments_does_not_trip_over_it() -> None:
    from autograder.authoring import sources

    home = course.assignments_home()
    assert {path.parent for path in sources(home)} == {home}
    assert "cluster" not in [path.stem for path in sources(home)]
