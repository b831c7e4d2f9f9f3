"""Albums: photos that come one by one, seconds apart, twice, and at several replicas."""

from tests.support.sample_media import image
from tests.unit.handlers.telegram.conftest import PHOTO, Bot


async def test_album_becomes_one_task_with_all_photos_in_their_order(bot: Bot) -> None:
    """Photos that come in another order than they were sent, and twice, are in the order of their messages."""
    pictures = [image("JPEG", (200 + 10 * number, 200)) for number in range(3)]
    updates = [
        bot.api.message("/video a dance" if number == 1 else "", photo=picture, album="a1")
        for number, picture in enumerate(pictures)
    ]
    await bot.receive(updates[2], updates[0], updates[0], updates[1], updates[2])
    assert await bot.test.tasks() == []
    await bot.test.advance(7)
    [task] = await bot.test.tasks()
    assert [part["bytes"] for part in task.params["images"]] == [len(picture) for picture in pictures]
    assert "bot: Got it with 3 photos. The video is in the queue." in bot.api.log


async def test_photo_that_comes_six_seconds_later_belongs_to_its_album(bot: Bot) -> None:
    """Each arrival renews the quiet window, and an album is not complete before seven seconds."""
    await bot.receive(bot.api.message("/video a dance", photo=PHOTO, album="a1"))
    await bot.test.advance(6)
    await bot.receive(bot.api.message(photo=PHOTO, album="a1"))
    await bot.test.advance(2)
    assert await bot.test.tasks() == []
    await bot.test.advance(1)
    [task] = await bot.test.tasks()
    assert len(task.params["images"]) == 2


async def test_album_without_end_is_complete_after_twelve_seconds(bot: Bot) -> None:
    """Photos that come every two seconds do not delay it for ever; one that comes later is answered."""
    for _ in range(6):
        await bot.receive(bot.api.message("/video a dance", photo=PHOTO, album="a1"))
        await bot.test.advance(2)
    [task] = await bot.test.tasks()
    assert len(task.params["images"]) == 6
    late = bot.api.message(photo=PHOTO, album="a1")
    await bot.receive(late)
    await bot.test.advance(3)
    assert len(await bot.test.tasks()) == 1
    answer = list(bot.api.shown())[-1]
    assert answer.text.startswith("This photo came too late for its album")
    assert answer.reply_to == late["message"]["message_id"]


async def test_caption_that_comes_late_still_makes_the_video_of_all_photos(bot: Bot) -> None:
    """Without its command an album is answered with a hint; the command uses all of its photos."""
    await bot.receive(*(bot.api.message(photo=PHOTO, album="a1") for _ in range(2)))
    await bot.test.advance(7)
    await bot.receive(bot.api.message("/video a dance", photo=PHOTO, album="a1"))
    await bot.test.advance(3)
    [task] = await bot.test.tasks()
    assert len(task.params["images"]) == 3


async def test_album_of_an_uninvited_user_is_refused_once_and_not_stored(bot: Bot) -> None:
    """Only its command is acted on; nothing else of it is in the database."""
    updates = [
        bot.api.message("/video x" * (number == 0), photo=PHOTO, album="a1", user=8, chat=8) for number in (0, 1)
    ]
    await bot.receive(*updates)
    await bot.test.advance(7)
    assert len(bot.api.texts(8)) == 1
    assert len(await bot.test.tools.state.get("album/8/a1", [])) == 1
    assert await bot.test.tasks() == []


async def test_too_many_photos_are_explained(bot: Bot) -> None:
    """The chat shows the limit of the model."""
    await bot.receive(*(bot.api.message("/video x", photo=PHOTO, album="a1") for _ in range(8)))
    await bot.test.advance(7)
    [text] = bot.api.texts()
    assert "Pictures: must hold 1 to 7" in text
