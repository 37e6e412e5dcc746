use super::*;

fn member(uid: &str) -> Member {
    Member {
        uid: uid.into(),
        service_account: "default".into(),
        netns: "/netns".into(),
        addresses: vec!["10.0.0.2".parse().unwrap()],
        redirect: Redirect::default(),
        running: false,
    }
}

fn running(uid: &str) -> Member {
    Member { running: true, ..member(uid) }
}

/// Does what a step says, as if it went well.
fn done(step: Step, want: &Want, have: &mut Have) {
    match (step, want) {
        (Step::Enter, Want::In(member)) => {
            have.uid = Some(member.uid.clone());
            have.entered = Some((member.netns.clone(), member.addresses.clone()));
        }
        (Step::Inspect, _) => have.rules = Rules::Absent,
        (Step::Program, Want::In(member)) => have.rules = Rules::Set(member.redirect.clone()),
        (Step::Propose, _) => have.proxied = Proxied::Yes,
        (Step::Probe, Want::In(member)) => have.probed = member.addresses.clone(),
        (Step::Tell(told), _) => have.told = told,
        (Step::Unprobe, _) => have.probed.clear(),
        (Step::Withdraw, _) => have.proxied = Proxied::No,
        (Step::LetGo, _) => have.rules = Rules::LettingGo,
        (Step::Unprogram, _) => have.rules = Rules::Absent,
        (Step::Leave, _) => have.entered = None,
        (step, want) => panic!("{step:?} makes no sense for {want:?}"),
    }
}

/// The steps that lead to rest.
fn steps(want: &Want, have: &mut Have) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let step = next(want, have);
        if matches!(step, Step::Rest | Step::End) {
            return steps;
        }
        steps.push(step);
        assert!(steps.len() < 20, "it never rests: {steps:?}");
        done(step, want, have);
    }
}

const ENROL: [Step; 5] = [Step::Enter, Step::Program, Step::Propose, Step::Probe, Step::Tell(Told::Enabled)];

#[test]
fn a_pod_is_taken_in_rules_first_and_told_of_last() {
    assert_eq!(steps(&Want::In(member("a")), &mut Have::of(Told::Nothing)), ENROL);
}

#[test]
fn a_pod_joins_that_runs_and_was_never_in() {
    for (member, told, rules, joins) in [
        (running("a"), Told::Nothing, Rules::Absent, true),
        (running("a"), Told::Nothing, Rules::LettingGo, true),
        (running("a"), Told::Nothing, Rules::Unknown, false),
        (running("a"), Told::Nothing, Rules::Other, false),
        (running("a"), Told::Pending, Rules::Absent, false),
        (running("a"), Told::Enabled, Rules::Absent, false),
        (member("a"), Told::Nothing, Rules::Absent, false),
    ] {
        let have = Have { rules, ..Have::of(told) };
        assert_eq!(have.joins(&member), joins, "{member:?} {have:?}");
    }
}

#[test]
fn into_a_pod_that_runs_the_proxy_comes_first() {
    let steps = steps(&Want::In(running("a")), &mut Have::of(Told::Nothing));
    assert_eq!(steps, [Step::Enter, Step::Propose, Step::Program, Step::Probe, Step::Tell(Told::Enabled)]);
}

#[test]
fn a_pod_that_runs_is_closed_if_there_is_no_proxy() {
    let (want, mut have) = (Want::In(running("a")), Have::of(Told::Nothing));
    done(Step::Enter, &want, &mut have);
    assert_eq!(next(&want, &have), Step::Propose);
    have.proxied = Proxied::Asked;
    assert_eq!(next(&want, &have), Step::Program, "it was tried");
    done(Step::Program, &want, &mut have);
    assert_eq!(next(&want, &have), Step::Propose);
}

#[test]
fn a_pod_that_runs_and_was_in_before_is_closed_first() {
    let (want, mut have) = (Want::In(running("a")), Have::of(Told::Enabled));
    done(Step::Enter, &want, &mut have);
    have.rules = Rules::Absent;
    assert_eq!(next(&want, &have), Step::Program, "who took its rules away is not helped");
    assert!(!have.joins(&running("a")), "nothing is let through meanwhile");
}

#[test]
fn a_pod_that_runs_with_rules_that_were_changed_is_closed_first() {
    let (want, mut have) = (Want::In(running("a")), Have::of(Told::Nothing));
    done(Step::Enter, &want, &mut have);
    have.rules = Rules::Other;
    assert_eq!(next(&want, &have), Step::Program);
    assert!(!have.joins(&running("a")), "nothing is let through meanwhile");
    assert_eq!(next(&Want::Out { netns: None, hurry: false }, &have), Step::LetGo);
}

#[test]
fn a_pod_is_taken_out_on_the_way_back() {
    let mut have = Have::of(Told::Nothing);
    steps(&Want::In(member("a")), &mut have);
    let out = steps(&Want::Out { netns: None, hurry: false }, &mut have);
    assert_eq!(
        out,
        [Step::Unprobe, Step::LetGo, Step::Withdraw, Step::Tell(Told::Nothing), Step::Unprogram, Step::Leave]
    );
    assert_eq!(next(&Want::Out { netns: None, hurry: false }, &have), Step::Rest);
}

#[test]
fn a_pod_that_comes_back_while_its_rules_let_go_gets_them_again() {
    let mut have = Have::of(Told::Nothing);
    let want = Want::In(member("a"));
    steps(&want, &mut have);
    have.rules = Rules::LettingGo;
    assert_eq!(next(&want, &have), Step::Program);
}

#[test]
fn the_rules_of_a_pod_that_is_gone_stay() {
    let mut have = Have::of(Told::Nothing);
    steps(&Want::In(member("a")), &mut have);
    let gone = steps(&Want::Gone, &mut have);
    assert!(!gone.contains(&Step::LetGo) && !gone.contains(&Step::Unprogram), "{gone:?}");
    assert_eq!(next(&Want::Gone, &have), Step::End);
}

#[test]
fn after_a_restart_rules_are_looked_at_before_they_are_written() {
    let mut have = Have::of(Told::Enabled);
    let want = Want::In(member("a"));
    assert_eq!(next(&want, &have), Step::Enter);
    done(Step::Enter, &want, &mut have);
    assert_eq!(next(&want, &have), Step::Inspect);
    have.rules = Rules::Set(Redirect::default());
    assert_eq!(steps(&want, &mut have), [Step::Propose, Step::Probe], "nothing is written and nothing told again");
}

#[test]
fn what_an_earlier_agent_left_is_cleaned_up() {
    let mut have = Have::of(Told::Enabled);
    let out = steps(&Want::Out { netns: None, hurry: false }, &mut have);
    assert_eq!(out, [Step::LetGo, Step::Withdraw, Step::Tell(Told::Nothing), Step::Unprogram]);
}

#[test]
fn a_new_incarnation_of_a_name_begins_when_the_old_one_is_gone() {
    let mut have = Have::of(Told::Nothing);
    steps(&Want::In(member("a")), &mut have);
    let want = Want::In(member("b"));
    let gone = steps(&want, &mut have);
    assert_eq!(gone, [Step::Unprobe, Step::Withdraw, Step::Tell(Told::Nothing), Step::Leave]);
    assert_eq!(next(&want, &have), Step::End, "what is left of it is forgotten");
}

#[test]
fn a_namespace_that_is_not_the_pods_is_left_at_once_and_its_rules_stay() {
    let mut have = Have::of(Told::Nothing);
    let want = Want::In(member("a"));
    steps(&want, &mut have);
    have.doubted = true;
    assert_eq!(steps(&want, &mut have), [Step::Unprobe, Step::Withdraw, Step::Tell(Told::Nothing), Step::Leave]);
    assert_eq!(next(&want, &have), Step::End);
}

#[test]
fn a_change_does_only_what_changed() {
    let mut base = Have::of(Told::Nothing);
    steps(&Want::In(member("a")), &mut base);
    let moved = Member { netns: "/other".into(), ..member("a") };
    let shaped = Member { redirect: Redirect { dns: false, ..Redirect::default() }, ..member("a") };
    let addressed = Member { addresses: vec!["10.0.0.3".parse().unwrap()], ..member("a") };
    for (want, expected) in
        [(moved, vec![Step::Enter]), (shaped, vec![Step::Program]), (addressed, vec![Step::Enter, Step::Probe])]
    {
        assert_eq!(steps(&Want::In(want), &mut base.clone()), expected);
    }
}

#[test]
fn from_anywhere_a_changed_mind_is_followed_to_its_end() {
    // Stop after any number of steps of taking in, then take out, and the
    // other way round: nothing is left over and nothing is left out.
    for (stop, member) in (0..=ENROL.len()).flat_map(|stop| [(stop, member("a")), (stop, running("a"))]) {
        let mut have = Have::of(Told::Nothing);
        let want = Want::In(member);
        for _ in 0..stop {
            let step = next(&want, &have);
            done(step, &want, &mut have);
        }
        let mut out = have.clone();
        steps(&Want::Out { netns: None, hurry: false }, &mut out);
        assert_eq!(
            (out.proxied, &out.rules, out.told, out.probed.len()),
            (Proxied::No, &Rules::Absent, Told::Nothing, 0)
        );
        steps(&want, &mut out);
        assert_eq!((out.proxied, out.told), (Proxied::Yes, Told::Enabled));
    }
}
