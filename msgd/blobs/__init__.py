"""What lies beside the database: the bytes of uploads and of what is made of them, and the record of each upload.

==============  ==============================================================================
``interface``   the contracts: Blobs (content under the name that it gives itself), Uploads
``spool``       content on its way in: a temporary file that is hashed as it is written
``local``       blobs in a folder
``s3``          blobs in storage that speaks S3
``offload``     the threads in which both block
``tables``      the tables of uploads, and who holds which blob
``sql``         uploads over the database toolkit
``sweeping``    deletes blobs that nobody needs any more
==============  ==============================================================================
"""

from __future__ import annotations
