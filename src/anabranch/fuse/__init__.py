"""The mount: requests of the kernel, answered from working trees and history."""
