echo before
no_such_command_here --please
