"""What the expert codes of IU X-ray stand for, and how its reports are split (benchmarks/labels.py)."""

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from r2gengpt.text.observations import OBSERVATIONS

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "labels.py"
spec = importlib.util.spec_from_file_location("label_benchmark", SCRIPT)
benchmark = importlib.util.module_from_spec(spec)
sys.modules["label_benchmark"] = benchmark
spec.loader.exec_module(benchmark)

REPORT = """
<eCitation><uId id="CXR0"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Rule out edema.</AbstractText>
<AbstractText Label="FINDINGS">Large heart.</AbstractText><AbstractText Label="IMPRESSION">Cardiomegaly.</AbstractText>
</Abstract></Article></MedlineCitation><MeSH><major>Cardiomegaly/mild</major><automatic>Heart</automatic></MeSH></eCitation>
"""


@pytest.mark.parametrize(
    ("codes", "observations"),
    [
        (["normal"], {"No Finding"}),
        (["Calcified Granuloma/lung", "Spine/degenerative"], {"No Finding"}),
        (["Catheters, Indwelling/right"], {"No Finding", "Support Devices"}),
        (["Cardiomegaly/mild", "Pulmonary Congestion"], {"Cardiomegaly", "Edema"}),
        (["Cardiac Shadow/obscured"], {"No Finding"}),
        (["Hydropneumothorax/left"], {"Pneumothorax", "Pleural Effusion"}),
        (["Opacity/lung/upper lobe/right/round"], {"Lung Opacity", "Lung Lesion"}),
        (["Opacity/ribs/anterior"], {"No Finding"}),
        (["Thickening/pleura/apex", "Costophrenic Angle/left/blunted"], {"Pleural Other"}),
        (["Pericardial Effusion/large"], {"No Finding"}),
    ],
)
def test_codes_stand_for_the_observations_of_the_table(codes: list[str], observations: set[str]) -> None:
    assert benchmark.expert_labels(codes) == observations


def test_the_table_has_each_observation_but_no_finding() -> None:
    assert set(benchmark.CODES) == set(OBSERVATIONS) - {"No Finding"}


def test_of_a_report_findings_impression_and_the_coders_terms_are_read() -> None:
    report = benchmark.coded(ElementTree.fromstring(REPORT))
    assert (report.id, report.text, report.codes) == ("CXR0", "Large heart.\nCardiomegaly.", ("Cardiomegaly/mild",))
    assert benchmark.is_usable(report)
    assert not benchmark.is_usable(benchmark.Coded("a", "Edema.", ("No Indexing",)))
    assert not benchmark.is_usable(benchmark.Coded("a", "", ("normal",)))


def test_the_halves_hang_on_the_id_alone_and_are_about_as_large() -> None:
    halves = [benchmark.Coded(f"CXR{i}", str(i), ()).half for i in range(400)]
    assert halves == [benchmark.Coded(f"CXR{i}", "", ("normal",)).half for i in range(400)]
    assert 160 < halves.count("held_out") < 240


def test_agreement_counts_what_rules_and_coders_have() -> None:
    reports = [
        benchmark.Coded("a", "Mild cardiomegaly.", ("Cardiomegaly/mild",)),
        benchmark.Coded("b", "Possible edema.", ("normal",)),
        benchmark.Coded("c", "The lungs are clear.", ("normal",)),
    ]
    found = benchmark.agreement(reports)
    edema = found["uncertain_as_positive"]["Edema"]
    assert (edema["rules"], edema["expert"], edema["both"]) == (1, 0, 0)
    assert found["uncertain_as_negative"]["Edema"]["rules"] == 0
    assert found["uncertain_as_positive"]["Cardiomegaly"]["f1"] == 1.0
    assert found["coded_normal_and_nothing_else"] == {
        "expert": 2,
        "no_finding_by_rules": 1,
        "no_finding_by_codes": 2,
    }


def test_another_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"other")
    with pytest.raises(SystemExit, match=r"other\.tgz: SHA-256 .* is not"):
        benchmark.read_reports(tmp_path / "other.tgz")
