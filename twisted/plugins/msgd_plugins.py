"""The daemons that ``twistd`` lists."""

from twisted.application.service import ServiceMaker

msgd = ServiceMaker("msgd", "msgd.app.daemons.msgd", "msgd: all services in one process", "msgd")
recorder = ServiceMaker("msgd recorder", "msgd.app.daemons.recorder", "msgd: journals events", "recorder")
notifier = ServiceMaker("msgd notifier", "msgd.app.daemons.notifier", "msgd: serves browsers", "notifier")
crawler = ServiceMaker("msgd crawler", "msgd.app.daemons.crawler", "msgd: crawls sites", "crawler")
mailer = ServiceMaker("msgd mailer", "msgd.app.daemons.mailer", "msgd: sends mail", "mailer")
messenger = ServiceMaker(
    "msgd messenger", "msgd.app.daemons.messenger", "msgd: sends messages and webhooks", "messenger"
)
thumbnailer = ServiceMaker(
    "msgd thumbnailer", "msgd.app.daemons.thumbnailer", "msgd: makes pictures smaller", "thumbnailer"
)
