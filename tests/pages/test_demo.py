"""The page to try a model, as its command serves it, in a headless browser."""

from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page

from stages import demo
from tests.support.served import served
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

HOSTILE = '</textarea><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\u202e'
BATTLE = {"prompt": "What is 2 + 2?", "response_a": "It is 4.", "response_b": "Fish, I think."}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny)


@pytest.fixture(scope="module")
def address(trained) -> Iterator[str]:
    """What the command prints."""
    with served("demo", trained.path) as address:
        yield address


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page, opened on a phone; it must not say anything in the console."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    yield page
    page.close()
    expected = ("status of 422", "ERR_FAILED")  # Chromium's own word on a refused request
    assert [text for text in said if not any(known in text for known in expected)] == []


def predict(page: Page, prompt: str, a: str, b: str) -> None:
    for name, text in (("prompt", prompt), ("response_a", a), ("response_b", b)):
        page.locator(f"textarea[name={name}]").fill(text)
    page.get_by_role("button", name="Predict").click()


def shares(page: Page, bar: str) -> dict[str, float]:
    """What a bar says, in percent."""
    words = page.locator(f"#{bar}").get_attribute("aria-label").replace("\u00a0%", "")
    return {name: float(share) for name, share in (word.split() for word in words.split(", "))}


def rounded(probabilities: dict[str, float]) -> object:
    """What a bar has to say of the server's probabilities, in whole percent."""
    names = {"a": "A", "b": "B", "tie": "Tie"}
    return pytest.approx({names[key]: 100 * p for key, p in probabilities.items()}, abs=0.51)


def test_a_battle_gets_three_probabilities_both_orders_and_the_prior(page, address):
    predict(page, *BATTLE.values())
    page.locator("#result").wait_for()
    about = requests.get(f"{address}/model", timeout=10).json()
    said = requests.post(f"{address}/predict", json=BATTLE, timeout=10).json()
    for bar, probabilities in (*said.items(), ("prior", about["prior"])):
        if bar != "dropped":
            assert page.locator(f"#{bar} > div").count() == 3
            assert shares(page, bar) == rounded(probabilities)
    best = max(said["final"], key=said["final"].get)
    assert f"{best} is the likeliest" in page.locator("#winner").inner_text().lower()
    assert about["checkpoint"] in page.locator("#about").inner_text()


def test_bars_are_as_wide_as_what_they_say(page):
    predict(page, *BATTLE.values())
    page.locator("#result").wait_for()
    page.wait_for_timeout(400)  # they grow to their width
    whole = page.locator("#final").bounding_box()["width"]
    for name, part in zip(("A", "Tie", "B"), page.locator("#final > div").all(), strict=True):
        share = 100 * part.bounding_box()["width"] / whole
        assert share == pytest.approx(shares(page, "final")[name], abs=2)


def test_the_example_and_the_keyboard_predict_too(page):
    page.get_by_role("button", name="Example").click()
    page.locator("#result[aria-busy=false]").wait_for()
    page.locator("textarea[name=response_b]").fill("Something else")
    with page.expect_response("**/predict") as answered:
        page.keyboard.press("Control+Enter")
    page.locator("#result[aria-busy=false]").wait_for()
    assert answered.value.request.post_data_json["response_b"] == "Something else"
    assert shares(page, "ab") == rounded(answered.value.json()["ab"])


def test_hostile_and_long_texts_neither_run_nor_break_the_page(page):
    predict(page, HOSTILE, HOSTILE * 200, "x" * 20_000)
    page.locator("#result").wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "it did not see" in page.locator("#dropped").inner_text()


def test_errors_are_told_in_words_and_go_away(page):
    predict(page, "  ", "a", "b")
    error = page.get_by_role("alert")
    error.wait_for()
    assert error.inner_text() == "The prompt is empty."
    predict(page, "p", "a" * 200_001, "b")
    page.wait_for_function("document.getElementById('error').textContent.includes('response_a')")
    assert "200000 characters" in error.inner_text()
    predict(page, "p", "a", "b")
    page.locator("#result").wait_for()
    assert not error.is_visible()


def test_a_server_that_does_not_answer_is_told(page):
    page.route("**/predict", lambda route: route.abort())
    predict(page, "p", "a", "b")
    page.get_by_role("alert").wait_for()
    assert "does not answer" in page.get_by_role("alert").inner_text()


def test_a_port_that_is_taken_is_explained(trained, address, capsys):
    port = address.rsplit(":", 1)[1]
    with pytest.raises(SystemExit):
        trained.call(demo.main, "--port", port)
    assert f"port {port} is not free" in capsys.readouterr().err
