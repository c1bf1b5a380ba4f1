"""An HTML page, checked and taken apart."""

from html.parser import HTMLParser

VOID = {"meta", "input", "br", "hr", "img", "link", "col"}


class Page(HTMLParser):
    """Checks that every tag is closed in turn, and keeps tags, texts and ids."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))
