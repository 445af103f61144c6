//! Power on and off, and what kills, stops and thaws processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Machine;
use crate::kernel::element;
use crate::kernel::leash::Leash;
use crate::plant::Plant;
use crate::process::Process;
use crate::world::World;

/// Which of a machine's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The agent.
    Agent,
    /// The keeper.
    Keeper,
    /// Both.
    Both,
}

impl Part {
    fn has_agent(self) -> bool {
        matches!(self, Part::Agent | Part::Both)
    }

    fn has_keeper(self) -> bool {
        matches!(self, Part::Keeper | Part::Both)
    }
}

impl Machine {
    /// The power comes, and init begins.
    pub fn power_on(self: &Arc<Self>, world: &Arc<World>) {
        let boot = {
            let mut running = self.running();
            if running.power {
                return;
            }
            running.power = true;
            running.boot += 1;
            running.boot
        };
        world.log(format_args!("n{} has power", self.index + 1));
        crate::world::spawn(super::init::run(world.clone(), self.clone(), boot));
    }

    /// The power goes: nothing runs any more, and what was not synced is lost, all or some.
    pub fn power_off(self: &Arc<Self>, world: &World) {
        if !std::mem::take(&mut self.running().power) {
            return;
        }
        self.kill(world, Part::Both);
        for leash in self.leashes() {
            leash.kill();
        }
        self.end_acts(world);
        self.running().frozen = false;
        let mut chance = world.new_chance();
        if let Err(error) = self.disk.lose(&self.dir, &mut chance) {
            world.broken(format!("the simulated disk of n{} does not work: {error}", self.index + 1));
        }
    }

    fn leashes(&self) -> Vec<Arc<Leash>> {
        self.kernel().leashes.values().cloned().collect()
    }

    /// Nothing on it acts any more, at this very instant.
    fn end_acts(&self, world: &World) {
        element::close_all(world, self);
        self.kernel().leashes.clear();
        let now = crate::world::now();
        for (id, act) in world.acts.now(now) {
            if act.machine == self.index {
                world.acts.end(id, now);
            }
        }
    }

    /// Processes die. With the keeper dies what it runs.
    pub fn kill(&self, world: &World, part: Part) {
        let (agent, keeper) = {
            let mut running = self.running();
            let agent = if part.has_agent() { running.agent.take() } else { None };
            let keeper = if part.has_keeper() { running.keeper.take() } else { None };
            if keeper.is_some() {
                running.configured = None;
            }
            (agent, keeper)
        };
        if let Some(agent) = agent {
            agent.kill();
        }
        if let Some(keeper) = keeper {
            keeper.process.kill();
            keeper.inbox.close();
            if !world.has(Plant::Orphans) {
                self.leashes().iter().for_each(|leash| leash.kill());
            }
        }
    }

    fn processes(&self, part: Part) -> Vec<Arc<Process>> {
        let running = self.running();
        let agent = running.agent.as_ref().filter(|_| part.has_agent()).map(|agent| agent.process.clone());
        let keeper = running.keeper.as_ref().filter(|_| part.has_keeper()).map(|keeper| keeper.process.clone());
        agent.into_iter().chain(keeper).collect()
    }

    /// Processes stand still.
    pub fn freeze(&self, part: Part) {
        if part == Part::Both {
            self.running().frozen = true;
        }
        self.processes(part).iter().for_each(|process| process.stop());
    }

    /// Whatever stood still goes on.
    pub fn thaw(&self) {
        self.running().frozen = false;
        self.processes(Part::Both).iter().for_each(|process| process.go_on());
    }

    /// An operator has looked after whatever was wrong with its disk.
    pub fn repair(&self) {
        self.disk.set_trouble(crate::disk::Trouble::None);
        self.running().out_of_order = false;
    }

    /// Asks the keeper to end in good order, as `systemctl stop` does.
    pub fn terminate_keeper(&self) {
        if let Some(keeper) = self.keeper().filter(|keeper| keeper.listens.load(Ordering::Relaxed)) {
            let _ = keeper.inbox.try_send(crate::keeper::Inbox::Input(pkgctl::keeper::core::Input::Terminate));
        }
    }
}
