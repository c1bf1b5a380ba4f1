"""What is counted of documents: the statistics of the paper's Table 3, and oddities."""

from dygie_lines import LINE, write
from events_files import document, sentence

from gradual.tasks.events.data import oddities, read_documents, statistics


def test_statistics_are_those_of_table_3(tmp_path):
    documents = read_documents(write(tmp_path / "a.json", LINE, {"doc_key": "b", "sentences": [["a"]]}))
    assert statistics(documents) == {
        "documents": 2,
        "sentences": 3,
        "event types": 2,
        "role types": 4,
        "events": 2,
        "arguments": 4,
        "entity types": 2,
        "entities": 4,
        "relation types": 1,
        "relations": 1,
    }


def test_statistics_leave_out_entities_and_relations_where_there_are_none():
    events = [(0, "Die", [(0, 0, "Victim"), (1, 1, "Victim")]), (0, "Die", [])]
    rows = statistics([document("a", sentence("a b", events=events))])
    expected = {"documents": 1, "sentences": 1, "event types": 1, "role types": 1, "events": 2, "arguments": 2}
    assert rows == expected


def test_oddities_are_counted():
    twice = sentence(
        "a b c",
        ner=[(0, 1, "X"), (0, 1, "X"), (0, 1, "Y"), (0, 0, "X"), (0, 1, "X")],
        relations=[(0, 0, 1, 1, "R"), (1, 1, 0, 0, "R"), (0, 0, 1, 1, "S")],
        events=[
            (1, "Die", [(0, 0, "Victim"), (0, 0, "Victim"), (0, 0, "Agent")]),
            (1, "Die", [(0, 0, "Victim"), (2, 2, "Victim")]),
            (1, "Attack", []),
            (2, "Die", [(0, 0, "Victim")]),
        ],
    )
    documents = [
        document("odd", twice, twice, event=[], _user=1, predicted_events=[], weight=2.0, dataset="d"),
        document("bare", "a b c", layers=()),
    ]
    assert oddities(documents) == {
        "documents with the unknown field 'event'": 1,
        "documents without annotations": 1,
        "entities annotated more than once": 4,
        "entities with several labels": 2,
        "relations with several labels": 2,
        "triggers annotated more than once": 2,
        "triggers with several labels": 2,
        "arguments annotated more than once": 4,
        "arguments with several labels": 2,
    }


def test_regular_documents_have_no_oddities(tmp_path):
    assert oddities(read_documents(write(tmp_path / "a.json", LINE))) == {}
