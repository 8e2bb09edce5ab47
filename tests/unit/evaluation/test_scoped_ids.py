"""Ids of evaluations inside: each tenant has ids of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import InputError, NotFound
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.record import public_id, scoped_id, tenant_of
from crucible.evaluation.request import ID_PATTERN, program_from
from crucible.executor.served import ServedEnvironments
from crucible.models import LOCAL_TENANT, TENANT_PATTERN
from crucible.settings import Settings

tenants = st.from_regex(re.compile(TENANT_PATTERN, re.ASCII))
ids = st.from_regex(re.compile(ID_PATTERN, re.ASCII))


@given(tenants, ids)
def test_a_scoped_id_says_whose_it_is_and_which(tenant: str, eval_id: str) -> None:
    """Tenant and id can be told from it."""
    scoped = scoped_id(tenant, eval_id)
    assert (tenant_of(scoped), public_id(scoped)) == (tenant, eval_id)


@given(tenants, ids, tenants, ids)
def test_no_two_tenants_share_one(a: str, one: str, b: str, other: str) -> None:
    """Scoped ids are equal only for the same id of the same tenant."""
    assert (scoped_id(a, one) == scoped_id(b, other)) == ((a, one) == (b, other))


@pytest.mark.parametrize("eval_id", ["acme:e1", ":", "a:b:c"])
@pytest.mark.parametrize("tenant", [LOCAL_TENANT, "acme"])
def test_a_client_cannot_spell_another_tenants_id(tenant: str, eval_id: str) -> None:
    """A client that writes a scoped id is told that there is none such."""
    with pytest.raises(NotFound):
        scoped_id(tenant, eval_id)


def test_a_program_is_of_the_tenant_that_its_id_names() -> None:
    """Workers learn the tenant from the message's id, so lanes and turns are the tenant's."""
    served, ceilings = ServedEnvironments(), ceilings_of(Settings())
    program = program_from("acme:e1", "x", "python", {}, served=served, ceilings=ceilings)
    assert (program.tenant, program.eval_id) == ("acme", "acme:e1")
    program = program_from("e1", "x", "python", {}, served=served, ceilings=ceilings)
    assert program.tenant == LOCAL_TENANT


@pytest.mark.parametrize("eval_id", ["local:e1", " :e1", ":e1", "a b:e1", "x" * 65 + ":e1"])
def test_a_message_cannot_name_what_is_no_tenant(eval_id: str) -> None:
    """Anybody may write to a queue."""
    with pytest.raises(InputError, match="tenant"):
        program_from(
            eval_id,
            "x",
            "python",
            {},
            served=ServedEnvironments(),
            ceilings=ceilings_of(Settings()),
        )
