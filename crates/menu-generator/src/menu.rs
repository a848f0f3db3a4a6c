use boot_model::{CommandLine, GenerationRef};
use config::SerialConsole;

/// What a person before a machine's screen sees and can choose, whichever loader shows it.
///
/// Texts are as the site or the publisher wrote them; each loader's renderer folds them to what it can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// The line above everything.
    pub heading: String,
    /// Sentences above the items.
    pub notes: Vec<String>,
    /// What can be chosen, first to last. Never empty: loaders give up on a menu without entries.
    pub items: Vec<Item>,
    /// Which item is preselected, as an index; without one the first is.
    pub default: Option<usize>,
    /// Seconds until the preselected item is taken unasked; 0 waits for a key.
    pub timeout_seconds: u16,
    /// Whether the loader must keep command lines from being edited at the keyboard.
    pub locked: bool,
    /// The serial line that the loader is to use besides the screen, where it can.
    pub serial_console: Option<SerialConsole>,
    /// The generation whose entry, booted unasked, carries a consent to erase a disk.
    pub erases: Option<GenerationRef>,
}

/// One line of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Unique in the whole file, made of `[a-z0-9-]`.
    pub id: String,
    /// What the line says.
    pub label: String,
    /// What is said of it while it is selected, where the loader has room: a word and a text for each line.
    pub detail: Vec<(&'static str, String)>,
    /// What choosing it does.
    pub action: Action,
}

/// What choosing an item does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Loads a kernel and an initrd and starts them.
    Boot(Boot),
    /// Leaves the network: the firmware goes on with its next boot device.
    LocalDisk,
    /// Tests the memory.
    Memtest,
    /// Asks the server for the menu again.
    LookAgain,
    /// Opens another menu, with a way back.
    Submenu(Menu),
}

/// A kernel, its initrd and its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's served name, without a leading slash.
    pub kernel: String,
    /// The initrd's served name.
    pub initrd: String,
    /// The whole command line, except what the loader says of the booting card.
    pub command_line: CommandLine,
}
