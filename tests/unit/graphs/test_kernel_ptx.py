"""The parameter list of a PTX kernel: read, compared with what is passed, and cut down to it."""

from __future__ import annotations

import pytest

from dspark_plugins.nodes.ptx import declared_parameters, target_of, without_hidden_parameters

PTX = """.version 8.7
.target sm_90a
.address_size 64

.visible .entry step_one(
\t.param .u64 .ptr .global .align 16 step_one_param_0,
\t.param .u32 step_one_param_1,
\t.param .u64 .ptr .global .align 1 step_one_param_10
)
.reqntid 128
{
\tld.param.b64 \t%rd1, [step_one_param_0];
\tld.param.b32 \t%r1, [step_one_param_1];
\tret;
}
.visible .entry step_one_more() { ret; }
"""


def test_reads_target_and_parameters() -> None:
    assert target_of(PTX) == "sm_90a"
    names = [f"step_one_param_{i}" for i in (0, 1, 10)]
    assert declared_parameters(PTX, "step_one") == list(zip(("u64", "u32", "u64"), names, strict=True))
    assert declared_parameters(PTX, "step_one_more") == []


def test_takes_hidden_parameters_out_and_leaves_the_rest() -> None:
    stripped = without_hidden_parameters(PTX, "step_one", ["u64", "u32"])
    assert [kind for kind, _ in declared_parameters(stripped, "step_one")] == ["u64", "u32"]
    assert "step_one_param_10" not in stripped
    assert stripped.split(")", 1)[1] == PTX.split(")", 1)[1]
    assert without_hidden_parameters(stripped, "step_one", ["u64", "u32"]).split() == stripped.split()
    assert declared_parameters(without_hidden_parameters(PTX, "step_one_more", []), "step_one_more") == []


@pytest.mark.parametrize(
    ("ptx", "expected", "message"),
    [
        (PTX, ["u64", "u64"], "does not begin with"),
        (PTX, ["u64", "u32", "u64", "u64"], "does not begin with"),
        (PTX.replace("ret;", "ld.param.b64 %rd2, [step_one_param_10];", 1), ["u64", "u32"], "reads its hidden"),
        (PTX.replace("step_one", "other"), ["u64"], "0 entries step_one"),
        (PTX + PTX, ["u64"], "2 entries step_one"),
        (PTX.replace(".param .u32 ", ".param "), ["u64"], "unreadable PTX parameter"),
    ],
)
def test_refuses_what_it_cannot_cut(ptx: str, expected: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        without_hidden_parameters(ptx, "step_one", expected)


def test_ptx_without_a_target_is_refused() -> None:
    with pytest.raises(ValueError, match="names no target"):
        target_of(".version 8.7")
