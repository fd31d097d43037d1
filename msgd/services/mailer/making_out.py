"""How a mail is made out: from whom, with what, and what each recipient's copy has of its own."""

from __future__ import annotations

from msgspec import Struct

from msgd.blobs.interface import Blobs, Uploads
from msgd.errors import InvalidParams, NotFound
from msgd.services.mailer.addresses import Named, parse_named
from msgd.services.mailer.composing import Attachment, Copy, Mailing
from msgd.services.mailer.ledger import Row
from msgd.services.mailer.loading import upload_of
from msgd.services.mailer.params import ATTACHED_BYTES, Content
from msgd.services.mailer.signing import Signer
from msgd.services.mailer.templates import Parts


class Identity(Struct, frozen=True, kw_only=True):
    """Who mails: from whom, and what its addresses are."""

    sender: str = ""  # of jobs that name none
    list_id: str = ""
    unsubscribe: str = ""  # the beginning of the address by which one leaves a list; empty: there is none
    bounces: str = ""  # an address; empty: bounces go to the sender
    templates: str = ""  # a folder


def copy_of(
    signer: Signer, identity: Identity, job: str, params: Content, row: Row, sender: Named, date_s: int
) -> Copy:
    """What one recipient's mail has of its own."""
    url = ""
    if params.unsubscribe and identity.unsubscribe:
        url = f"{identity.unsubscribe.rstrip('/')}/unsubscribe/{signer.unsubscribe(row.key, job)}"
    return Copy(
        row=row.row,
        email=row.email,
        name=row.name,
        vars=row.vars,
        message_id=f"{signer.message_id(job, row.row)}@{sender.address.domain}",
        date_s=date_s,
        unsubscribe_url=url,
    )


async def mailing_of(owner: str, params: Content, identity: Identity, uploads: Uploads, blobs: Blobs) -> Mailing:
    """What all mails of a job of this owner have in common, with the content of its attachments. Raises
    InvalidParams."""
    sender = params.named_sender
    if sender is None:
        if not identity.sender:
            raise InvalidParams("the mail names no sender, and neither does [mail] sender", where="params.from")
        sender = parse_named(identity.sender)
    attachments = []
    size = 0
    for number, id_ in enumerate(params.attachments):
        where = f"params.attachments[{number}]"
        upload = await upload_of(uploads, owner, id_, where)
        size += upload.size
        if size > ATTACHED_BYTES:
            raise InvalidParams(f"the attachments have more than {ATTACHED_BYTES} bytes together", where=where)
        try:
            content = b"".join([chunk async for chunk in blobs.read(upload.blob)])
        except NotFound:
            raise InvalidParams(f"the content of the upload {id_} is gone", where=where) from None
        attachments.append(Attachment(upload.name, upload.media_type, content))
    return Mailing(
        parts=Parts(params.subject, params.text, params.html),
        template=params.template,
        folder=identity.templates,
        sender=sender,
        headers=params.headers,
        list_id=identity.list_id,
        attachments=attachments,
    )
