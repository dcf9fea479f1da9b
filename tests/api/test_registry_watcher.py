import asyncio

import pytest

from pregao.api.registry_watcher import RegistryWatcher
from pregao.errors import NoModel
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import registry


def test_a_fresh_home_serves_the_shipped_models(shared, vale3):
    async def run():
        watcher = RegistryWatcher()
        await watcher.start()
        return watcher, await watcher.model(vale3)

    watcher, served = asyncio.run(run())
    assert (served.stock, served.version) == ("SHARED", 1)
    assert watcher.problems == {}
    assert registry.champions() == {"SHARED": (1, served.run_id)}


def test_without_a_model_a_stock_is_refused(home, vale3):
    async def run():
        watcher = RegistryWatcher()
        await watcher.start()
        await watcher.model(vale3)

    with pytest.raises(NoModel):
        asyncio.run(run())


@pytest.mark.parametrize("damage", ["removed", "corrupted"])
def test_a_lost_database_leaves_the_models_in_memory_and_is_not_made_again(shared, vale3, damage, caplog):
    async def run():
        watcher = RegistryWatcher()
        await watcher.start()
        file = settings().mlruns / "mlflow.db"
        if damage == "removed":
            file.unlink()
        else:
            file.write_bytes(b"this is no database" * 1000)
        for _ in range(2):
            await watcher._follow(None)
        assert file.exists() == (damage == "corrupted")
        return watcher, await watcher.model(vale3)

    watcher, served = asyncio.run(run())
    assert served.stock == "SHARED"
    assert "The models in memory are served" in watcher.problems["registry"]
    assert caplog.text.count("The registry cannot be read") == 1


def test_a_model_that_cannot_be_loaded_is_a_problem_of_its_stock(shared):
    async def run():
        watcher = RegistryWatcher()
        (shared / "model.safetensors").write_bytes(b"")
        await watcher.start()
        return watcher.problems

    problems = asyncio.run(run())
    assert "The shipped model of SHARED cannot be registered" in problems["SHARED"]
    assert str(Symbol.parse("SHARED")) in problems
