"""``msgd upload``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.deployed import CommandCase, deployment
from tests.services.thumbnailer import pictures


class UploadTest(CommandCase):
    """Files from the command line."""

    def file(self, name: str, content: bytes) -> str:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / name).write_bytes(content)
        return str(folder / name)

    def test_addresses(self) -> None:
        """The addresses of what will be there, or of what is there, as it comes; and the exit code of the worst."""
        cat = self.file("cat [b].jpg", pictures.jpeg())
        table = self.file("list.csv", b"a,b\n")
        out, _ = self.msgd("upload", cat, table)
        url = deployment().url
        self.assertEqual(
            [line.rpartition("/")[2] for line in out.split()], ["small", "medium", "large", "original", "original"]
        )
        self.assertTrue(all(line.startswith(f"{url}/uploads/") for line in out.split()))
        told = self.lines("upload", "--wait", "--json", cat)
        self.assertEqual([one["name"] for one in told], ["large", "medium", "small", "original"])
        self.assertEqual({one["file"] for one in told}, {"cat [b].jpg"})
        self.assertEqual(told[0]["width"], 400)
        out, err = self.msgd("upload", "--wait", self.file("cut.jpg", pictures.jpeg(800, 600)[:9000]), table, code=1)
        self.assertIn("damaged or cut off", err)
        self.assertEqual(len(out.split()), 2)

    def test_refused(self) -> None:
        """A file that is not there, or empty; a token without the right."""
        self.assertIn("does not exist", self.msgd("upload", "/nowhere/at/all", code=2)[1])
        self.assertIn("is empty", self.msgd("upload", self.file("nothing.jpg", b""), code=2)[1])
        token = self.msgd("token", "--sub", "eve", "--can", "submit:crawl")[0].strip()
        self.assertIn("submit:thumbnail", self.msgd("--token", token, "upload", self.file("a.jpg", b"x"), code=4)[1])
