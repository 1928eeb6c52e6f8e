"""From what is noticed to one job for each pair, or to the reason why there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from memory import Site, image, report

from plugin.errors import InputError, MissingError, TransientError
from plugin.intake import StaleError, recheck_delay
from plugin.ports import Entry, Job, Outcome
from plugin.values import WITHDRAWN_VERSION, Accession, PatientRef, ReportRef, ReportStatus, StudyDescription, StudyRef

A, B = StudyRef("1.2.1"), StudyRef("1.2.2")
DAY = 86_400.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Patient P1 has study A; the report "r" names it."""
    site = Site(tmp_path)
    site.archive.add(image(A))
    site.reports.put(report(study_instance_uids=(A.study_instance_uid,)))
    return site


def pairs(jobs: tuple[Job, ...]) -> list[tuple[StudyRef, ReportRef | None]]:
    return [(job.study, job.report) for job in jobs]


def entry(site: Site, report_id: str = "r") -> Entry:
    found = site.intake.book.entry(report_id)
    assert found is not None
    return found


V1, V2, GONE = ReportRef("r", "1"), ReportRef("r", "2"), ReportRef("r", WITHDRAWN_VERSION)


class TestPairs:
    def test_a_report_whose_study_is_there_is_a_job(self, site: Site) -> None:
        taken = site.intake.take_report(V1)

        assert (taken.outcome, taken.report) == (Outcome.QUEUED, V1)
        assert pairs(taken.jobs) == [(A, V1)]
        assert site.queue.list() == taken.jobs

    def test_a_pair_is_one_job_however_often_and_by_whom_it_is_noticed(self, site: Site) -> None:
        first = site.intake.take_report(V1).jobs

        again = [site.intake.take_report(V1).jobs, site.intake.take_study(A), site.intake.take_again("r").jobs]

        assert again == [first] * 3
        assert len(site.queue.list()) == 1

    def test_a_version_that_is_known_is_not_read_again(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.intake.take_report(V1)

        assert site.reports.described == 1

    def test_jobs_that_a_lost_queue_forgot_are_put_again(self, site: Site) -> None:
        first = site.intake.take_report(V1).jobs
        site.queue.entries.clear()

        assert site.intake.take_report(V1).jobs == first

    def test_an_amended_report_is_another_job_and_an_old_notice_is_about_the_new_version(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.put(report(version="2", study_instance_uids=(A.study_instance_uid,)))

        now, late = site.intake.take_report(V2), site.intake.take_report(V1)

        assert pairs(now.jobs) == pairs(late.jobs) == [(A, V2)]
        assert len(site.queue.list()) == 2

    def test_several_studies_of_a_report_are_several_jobs(self, site: Site) -> None:
        site.archive.add(image(B))
        both = (A.study_instance_uid, B.study_instance_uid)
        ref = site.reports.put(report("both", study_instance_uids=both))

        assert pairs(site.intake.take_report(ref).jobs) == [(A, ref), (B, ref)]

    def test_several_reports_of_a_study_are_several_jobs_the_newest_last(self, site: Site) -> None:
        newest = site.reports.put(report("later", study_instance_uids=(A.study_instance_uid,)))

        assert pairs(site.intake.take_study(A)) == [(A, V1), (A, newest)]

    def test_a_late_image_is_another_job(self, site: Site) -> None:
        (before,) = site.intake.take_study(A)
        site.archive.add(image(A, "another"))

        (after,) = site.intake.take_study(A)

        assert after.job_id != before.job_id
        assert pairs((after,)) == [(A, V1)]

    def test_other_makers_are_another_job(self, site: Site) -> None:
        (before,) = site.intake.take_study(A)

        (after,) = replace(site.intake, makers=lambda: ("another model",)).take_study(A)

        assert after.job_id != before.job_id

    def test_eight_threads_that_notice_the_same_reports_make_one_job_for_each_pair(self, site: Site) -> None:
        uids = [f"1.3.{number}" for number in range(20)]
        for uid in uids:
            site.archive.add(image(StudyRef(uid)))
            site.reports.put(report(f"r{uid}", study_instance_uids=(uid,)))
        start = Barrier(8)

        def notice(way: int) -> None:
            intake = site.intake
            start.wait()
            for uid in uids:
                intake.take_report(ReportRef(f"r{uid}", "1")) if way % 2 else intake.take_study(StudyRef(uid))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(notice, range(8)))

        assert sorted(job.study.study_instance_uid for job in site.queue.list()) == sorted(uids)
        assert all(entry(site, f"r{uid}").outcome is Outcome.QUEUED for uid in uids)


class TestLateImages:
    LATE = report("late", study_instance_uids=(B.study_instance_uid,))

    def test_the_report_waits_and_is_taken_up_when_its_study_is_told_of(self, site: Site) -> None:
        ref = site.reports.put(self.LATE)
        assert site.intake.take_report(ref).outcome is Outcome.WAITING
        site.archive.add(image(B))

        assert pairs(site.intake.take_study(B)) == [(B, ref)]
        assert entry(site, "late").outcome is Outcome.QUEUED
        assert entry(site, "late").due is None

    def test_it_is_looked_at_again_at_growing_intervals(self, site: Site) -> None:
        site.intake.take_report(site.reports.put(self.LATE))
        assert site.intake.recheck() == 0
        site.queue.clock.advance(301)
        assert site.intake.recheck() == 1
        site.queue.clock.advance(301)
        assert site.intake.recheck() == 0
        site.archive.add(image(B))
        site.queue.clock.advance(301)

        assert site.intake.recheck() == 1
        assert entry(site, "late").outcome is Outcome.QUEUED

    def test_the_intervals_double_up_to_six_hours(self) -> None:
        delays = [recheck_delay(tries) / timedelta(minutes=1) for tries in (0, 1, 2, 6, 7, 100)]

        assert delays == [5, 10, 20, 320, 360, 360]

    def test_after_a_month_it_is_set_aside_and_a_late_arrival_still_works(self, site: Site) -> None:
        ref = site.reports.put(self.LATE)
        since = site.queue.clock.now
        site.intake.take_report(ref)
        for _ in range(31):
            site.queue.clock.advance(DAY)
            site.intake.recheck()

        (expired,) = site.intake.book.listed(Outcome.EXPIRED)
        assert (expired.report_id, expired.due, expired.since) == ("late", None, since)
        site.archive.add(image(B))
        assert pairs(site.intake.take_study(B)) == [(B, ref)]

    def test_how_long_it_waits_is_a_setting(self, site: Site) -> None:
        site.settings["wait"] = timedelta(hours=1)
        site.intake.take_report(site.reports.put(self.LATE))
        site.queue.clock.advance(3601)

        site.intake.recheck()

        assert entry(site, "late").outcome is Outcome.EXPIRED

    def test_a_new_version_begins_to_wait_anew(self, site: Site) -> None:
        site.settings["wait"] = timedelta(hours=1)
        site.intake.take_report(site.reports.put(self.LATE))
        site.queue.clock.advance(3601)
        site.intake.recheck()

        ref = site.reports.put(replace(self.LATE, ref=ReportRef("late", "2")))

        assert site.intake.take_report(ref).outcome is Outcome.WAITING

    def test_a_report_that_waits_by_its_order_is_taken_up_when_a_study_of_the_order_comes(self, site: Site) -> None:
        ref = site.reports.put(report("order", accessions=(Accession("A7"),)))
        assert site.intake.take_report(ref).outcome is Outcome.WAITING
        site.archive.add(image(B, accession_number="A7"))

        assert pairs(site.intake.take_study(B)) == [(B, ref)]

    def test_what_the_book_keeps_names_no_patient_and_no_order(self, site: Site) -> None:
        site.intake.take_report(site.reports.put(report("order", accessions=(Accession("ACC-SECRET"),))))
        site.intake.take_report(site.reports.put(report("bare", patient=PatientRef("MRN-SECRET"))))

        content = b"".join(path.read_bytes() for path in site.folder.glob("reports.sqlite*"))

        assert b"order" in content
        assert b"SECRET" not in content


class TestLateReports:
    def test_images_alone_cause_nothing(self, site: Site) -> None:
        site.reports.reports.clear()

        taken = site.intake.study_taken(A)

        assert taken.jobs == ()
        assert "No report" in taken.says
        assert site.queue.list() == ()

    def test_a_study_whose_report_cannot_be_used_says_why(self, site: Site) -> None:
        site.reports.put(report(study_instance_uids=(A.study_instance_uid,), unusable="the report is a PDF"))

        assert "the report is a PDF" in site.intake.study_taken(A).says

    def test_a_study_without_radiographs_is_refused(self, site: Site) -> None:
        site.archive.others[B] = StudyDescription(B, modalities=("CT",))

        with pytest.raises(InputError, match="no chest radiograph"):
            site.intake.take_study(B)

    def test_a_study_that_is_not_there_is_refused(self, site: Site) -> None:
        with pytest.raises(MissingError):
            site.intake.take_study(B)


class TestWithdrawal:
    @pytest.mark.parametrize("status", [ReportStatus.CANCELLED, ReportStatus.ENTERED_IN_ERROR])
    def test_a_withdrawn_report_is_taken_back_from_the_studies_it_was_about(
        self, site: Site, status: ReportStatus
    ) -> None:
        site.intake.take_report(V1)
        site.reports.put(report(version="2", status=status))

        taken = site.intake.take_report(V2)

        assert (taken.outcome, pairs(taken.jobs)) == (Outcome.WITHDRAWN, [(A, GONE)])
        assert not site.intake.is_joined(A, "r")

    def test_what_is_to_be_taken_back_waits_behind_nothing_that_is_new(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.queue.take()
        site.intake.take_report(site.reports.put(report("other", study_instance_uids=(A.study_instance_uid,))))
        site.reports.put(report(version="2", status=ReportStatus.ENTERED_IN_ERROR))
        site.intake.take_report(V2)

        first = site.queue.take()

        assert first is not None
        assert first.report == GONE

    def test_a_deleted_report_is_taken_back(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.reports.clear()

        taken = site.intake.take_again("r")

        assert (taken.outcome, pairs(taken.jobs)) == (Outcome.WITHDRAWN, [(A, GONE)])

    def test_a_report_that_a_server_did_not_find_for_a_moment_is_soon_shown_again(self, site: Site) -> None:
        there = dict(site.reports.reports)
        site.intake.take_report(V1)
        site.reports.reports.clear()
        site.intake.take_again("r")
        site.reports.reports = there
        site.queue.clock.advance(301)

        site.intake.recheck()

        assert site.intake.is_joined(A, "r")
        assert entry(site).due is None

    def test_a_withdrawn_report_that_nobody_knew_withdraws_nothing(self, site: Site) -> None:
        site.reports.put(report(status=ReportStatus.CANCELLED, study_instance_uids=(A.study_instance_uid,)))

        taken = site.intake.take_report(V1)

        assert (taken.outcome, taken.jobs) == (Outcome.WITHDRAWN, ())

    def test_a_report_that_comes_back_is_a_new_job_and_may_be_withdrawn_again(self, site: Site) -> None:
        there = site.reports.reports["r"]
        ids = []
        for _ in range(3):
            site.reports.put(there)
            ids += [job.job_id for job in site.intake.take_again("r").jobs]
            site.reports.reports.clear()
            ids += [job.job_id for job in site.intake.take_again("r").jobs]

        assert len(set(ids)) == len(ids) == 6

    def test_a_withdrawal_that_is_noticed_twice_is_one_job(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.reports.clear()

        first, second = site.intake.take_again("r"), site.intake.take_again("r")

        assert (len(first.jobs), second.jobs) == (1, ())
        assert len(site.queue.list()) == 2

    def test_a_report_that_moves_to_another_study_is_taken_back_from_the_first(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.archive.add(image(B))
        site.reports.put(report(version="2", study_instance_uids=(B.study_instance_uid,)))

        taken = site.intake.take_report(V2)

        assert sorted(pairs(taken.jobs)) == sorted([(A, GONE), (B, V2)])

    def test_a_report_that_moves_to_a_study_that_is_not_there_yet_is_taken_back_at_once(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.put(report(version="2", study_instance_uids=(B.study_instance_uid,)))

        taken = site.intake.take_report(V2)

        assert (taken.outcome, pairs(taken.jobs)) == (Outcome.WAITING, [(A, GONE)])

    def test_a_version_that_cannot_be_used_takes_the_last_one_back(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.put(report(version="2", study_instance_uids=(A.study_instance_uid,), unusable="a PDF"))

        taken = site.intake.take_report(V2)

        assert (taken.outcome, taken.reason, pairs(taken.jobs)) == (Outcome.REFUSED, "a PDF", [(A, GONE)])

    def test_a_version_of_another_patient_takes_the_last_one_back(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.reports.put(report(version="2", study_instance_uids=(A.study_instance_uid,), patient=PatientRef("P2")))

        taken = site.intake.take_report(V2)

        assert (taken.outcome, pairs(taken.jobs)) == (Outcome.REFUSED, [(A, GONE)])
        assert "P2" not in taken.reason

    def test_images_that_are_away_take_nothing_back(self, site: Site) -> None:
        site.intake.take_report(V1)
        site.archive.studies.clear()

        taken = site.intake.take_again("r")

        assert (taken.outcome, taken.jobs) == (Outcome.WAITING, ())
        assert site.intake.is_joined(A, "r")


class TestFaults:
    @pytest.mark.parametrize("failure", [TransientError("away"), InputError("not permitted")])
    @pytest.mark.parametrize("where", ["archive", "reports"])
    def test_what_cannot_be_taken_now_is_kept_and_tried_again(self, site: Site, failure: Exception, where: str) -> None:
        getattr(site, where).failure = failure
        with pytest.raises(type(failure)):
            site.intake.take_report(V1)
        getattr(site, where).failure = None
        site.queue.clock.advance(301)

        assert site.intake.recheck() == 1
        assert pairs(site.queue.list()) == [(A, V1)]

    def test_a_report_that_was_taken_stays_what_it_was_while_a_server_is_away(self, site: Site) -> None:
        site.intake.take_report(V1)
        before = entry(site)
        site.archive.failure = TransientError("away")

        with pytest.raises(TransientError):
            site.intake.take_again("r")

        assert replace(entry(site), due=None, tries=0) == before

    def test_a_defect_is_set_aside_with_what_to_do_and_a_person_may_have_it_tried_again(self, site: Site) -> None:
        site.intake.set_aside("r", "1", ValueError("Müller^Jörg"))

        assert (entry(site).outcome, entry(site).due) == (Outcome.REFUSED, None)
        assert entry(site).reason == "unexpected ValueError; please report it"
        assert site.intake.take_report(V1).outcome is Outcome.REFUSED
        assert pairs(site.intake.take_again("r").jobs) == [(A, V1)]


class TestReview:
    @pytest.fixture
    def ambiguous(self, site: Site) -> Entry:
        """Two studies have the accession number of report "q"."""
        site.archive.add(image(B))
        assert site.intake.take_report(site.reports.put(report("q", accessions=(Accession("A1"),)))).jobs == ()
        return entry(site, "q")

    def decide(self, site: Site, seen: Entry, *studies: StudyRef, who: str = "Dr. A") -> Entry:
        return site.intake.decide("q", studies, who=who, reason="seen both", revision=seen.revision)

    def test_an_ambiguous_report_is_for_a_person(self, ambiguous: Entry) -> None:
        assert (ambiguous.outcome, set(ambiguous.candidates)) == (Outcome.REVIEW, {A, B})
        assert ambiguous.reason == "2 studies have its accession number"

    def test_a_persons_word_is_acted_on_and_kept_with_time_and_name(self, site: Site, ambiguous: Entry) -> None:
        decided = self.decide(site, ambiguous, B)

        assert decided.outcome is Outcome.QUEUED
        assert decided.decision is not None
        assert (decided.decision.who, decided.decision.reason) == ("Dr. A", "seen both")
        assert decided.decision.made == site.queue.clock.now
        assert pairs(site.queue.list()) == [(B, ReportRef("q", "1"))]

    def test_it_holds_for_later_versions_too(self, site: Site, ambiguous: Entry) -> None:
        self.decide(site, ambiguous, B)
        ref = site.reports.put(report("q", "2", accessions=(Accession("A1"),)))

        assert pairs(site.intake.take_report(ref).jobs) == [(B, ref)]

    def test_none_of_them_is_a_word_too(self, site: Site, ambiguous: Entry) -> None:
        assert self.decide(site, ambiguous).outcome is Outcome.IGNORED
        assert site.queue.list() == ()

    def test_the_same_word_twice_changes_nothing(self, site: Site, ambiguous: Entry) -> None:
        first = self.decide(site, ambiguous, B)

        assert self.decide(site, ambiguous, B) == first

    def test_another_word_about_what_was_decided_is_refused(self, site: Site, ambiguous: Entry) -> None:
        self.decide(site, ambiguous, B)

        with pytest.raises(StaleError):
            self.decide(site, ambiguous, A, who="Dr. B")

    def test_a_word_is_changed_by_who_knows_it_and_what_it_led_to_is_taken_back(
        self, site: Site, ambiguous: Entry
    ) -> None:
        first = self.decide(site, ambiguous, B)

        second = self.decide(site, first, A, who="Dr. B")

        assert second.decision is not None
        assert [(word.who, word.studies) for word in second.decision.before] == [("Dr. A", (B,))]
        assert (second.decision.who, second.joined) == ("Dr. B", (A,))
        (back,) = [job for job in site.queue.list() if job.report and job.report.withdrawn]
        assert back.study == B
        third = self.decide(site, second, who="Dr. C")
        assert third.outcome is Outcome.IGNORED
        fourth = self.decide(site, third, B)
        assert (fourth.outcome, fourth.joined) == (Outcome.QUEUED, (B,))
        assert fourth.decision is not None
        assert [word.who for word in fourth.decision.before] == ["Dr. A", "Dr. B", "Dr. C"]
        assert site.intake.book.decided() == (fourth,)

    def test_a_word_that_no_longer_decides_cannot_be_changed(self, site: Site, ambiguous: Entry) -> None:
        self.decide(site, ambiguous, B)
        site.reports.reports.clear()
        site.intake.take_again("q")
        gone = site.intake.book.entry("q")
        assert gone is not None

        with pytest.raises(StaleError):
            self.decide(site, gone, A, who="Dr. B")

    def test_a_word_about_what_changed_meanwhile_is_refused(self, site: Site, ambiguous: Entry) -> None:
        site.archive.add(image(StudyRef("1.2.3")))
        site.intake.take_again("q")

        with pytest.raises(StaleError):
            self.decide(site, ambiguous, B)

    def test_looking_again_without_news_makes_nothing_stale(self, site: Site, ambiguous: Entry) -> None:
        site.queue.clock.advance(60)
        site.intake.take_again("q")
        site.intake.take_study(B)

        assert self.decide(site, ambiguous, B).outcome is Outcome.QUEUED

    def test_only_candidates_can_be_chosen(self, site: Site, ambiguous: Entry) -> None:
        with pytest.raises(InputError, match="none of the candidates"):
            self.decide(site, ambiguous, StudyRef("1.9"))

    def test_a_report_that_is_not_known_cannot_be_decided(self, site: Site) -> None:
        with pytest.raises(MissingError):
            site.intake.decide("unknown", (), who="", reason="", revision=0)

    def test_a_word_is_kept_while_a_server_is_away_and_acted_on_later(self, site: Site, ambiguous: Entry) -> None:
        site.archive.failure = TransientError("away")
        self.decide(site, ambiguous, B)
        site.archive.failure = None
        site.queue.clock.advance(301)

        site.intake.recheck()

        assert pairs(site.queue.list()) == [(B, ReportRef("q", "1"))]

    def test_a_second_study_of_the_order_reopens_what_was_clear_and_takes_nothing_back(self, site: Site) -> None:
        ref = site.reports.put(report("q", accessions=(Accession("A1"),)))
        assert pairs(site.intake.take_report(ref).jobs) == [(A, ref)]
        site.archive.add(image(B))

        site.intake.take_study(B)

        assert entry(site, "q").outcome is Outcome.REVIEW
        assert site.intake.is_joined(A, "q")
        self.decide(site, entry(site, "q"), B)
        assert not site.intake.is_joined(A, "q")
        assert (A, ReportRef("q", WITHDRAWN_VERSION)) in pairs(site.queue.list())

    def test_a_patient_mismatch_stays_fatal_whatever_a_person_says(self, site: Site, ambiguous: Entry) -> None:
        self.decide(site, ambiguous, B)
        site.archive.studies[B] = (image(B, patient=PatientRef("P2")),)

        site.intake.take_again("q")

        assert not site.intake.is_joined(B, "q")

    def test_more_studies_than_a_person_can_compare_are_cut_to_the_newest(self, site: Site) -> None:
        for number in range(50):
            site.archive.add(image(StudyRef(f"1.4.{number}")))

        site.intake.take_report(site.reports.put(report("q", accessions=(Accession("A1"),))))

        assert len(entry(site, "q").candidates) == 20
